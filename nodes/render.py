"""One render of MagicPortrait Sampler: one network after the other on the device, then window by window."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..magicportrait_core.denoiser import GuidedDenoiser
from ..magicportrait_core.diffusion.memory import bytes_per_window, memory_advice, windows_that_fit
from ..magicportrait_core.diffusion.noise import frame_noise
from ..magicportrait_core.diffusion.sampler import sample_clip
from ..magicportrait_core.diffusion.schedule import ddim_schedule
from ..magicportrait_core.diffusion.windows import part_of, plan_windows
from ..magicportrait_core.pipeline import ReenactOptions, picture_size, render_fingerprint, sampling_size
from ..magicportrait_core.reference import resize_portrait
from . import host, patchers, states
from .foreign_inputs import encode_portrait, text_embedding
from .previews import WatchedDenoiser, clock

if TYPE_CHECKING:
    from comfy.sd import VAE

    from ..magicportrait_core.diffusion.segments import PortraitSegments, Windows
    from ..magicportrait_core.models.config import ModelConfig
    from ..magicportrait_core.motion_features import MotionFeatures
    from .sockets import HostedModel

PREPARED = 0.02  # of the progress bar, when the networks before the Denoising UNet are done
GIGABYTE = 1e9


@dataclass(frozen=True)
class Share:
    """Which windows of the clip this sampler denoises."""

    window_frames: int = 0  # 0: as trained
    part: int = 1  # from 1
    parts: int = 1

    def windows(self, frames: int, config: ModelConfig, options: ReenactOptions) -> Windows:
        size = self.window_frames or config.window
        windows = plan_windows(frames, size, options.overlap, options.plan)
        if self.part > self.parts:
            raise ValueError(f"part is {self.part} but parts is {self.parts}: choose part 1 to {self.parts}")
        if self.parts > len(windows):
            raise ValueError(
                f"parts is {self.parts}, but {frames} frames are {len(windows)} windows: choose parts 1 to "
                f"{len(windows)}"
            )
        return part_of(windows, self.part - 1, self.parts)


def render(
    model: HostedModel,
    portrait: Tensor,  # (3, H, W) in [-1, 1]
    vae: VAE,
    features: MotionFeatures,
    conditioning: list | None,  # the host's, None: the embedding stored with the model
    options: ReenactOptions,
    share: Share,
) -> tuple[PortraitSegments, str]:
    """The segments and a report. What cannot work is refused before anything is computed."""
    config, unet = model.model.config, model.denoising_unet
    text = text_embedding(conditioning, model.model)
    size = sampling_size(picture_size(portrait), features, model.model, options)
    windows = share.windows(features.num_frames, config, options)
    schedule = ddim_schedule(options.steps)
    pixels = resize_portrait(portrait, size)

    bar = host.Progress()
    preparing = bar.stage(0.0, PREPARED)
    latents = encode_portrait(vae, pixels, config)  # (1, C, h, w)
    preparing(1, 2)
    tokens = appearance_tokens(model, latents, text)
    preparing(2, 2)
    patchers.unload(model.guidance_encoders, model.appearance_net, vae.patcher)

    dtype, frames = model.model.dtype, len(windows[0])
    needed = bytes_per_window(config, features.size, dtype, frames)
    network = patchers.load(unet, needed * (options.windows_per_batch or 1))
    batch = options.windows_per_batch or windows_per_batch(model, features.size, frames)
    room = min(patchers.free_bytes(unet), needed // 2)  # a window that did not fit was more than estimated
    clip = network.condition(tokens, text.to(unet.load_device, dtype))
    denoise = WatchedDenoiser(
        GuidedDenoiser(
            network,
            clip,
            features,
            unet.load_device,
            dtype,
            options.guidance_scale,
            options.guidance_strength,
        ),
        schedule,
        bar.stage(PREPARED, 1.0),
        len(windows),
    )
    identity = render_identity(
        render_fingerprint(model.model, features, pixels, text, options), share, options
    )
    state = states.state_file(identity, share.part, share.parts, options.save_every)
    going_on = state is not None and state.path.exists()
    segments = sample_clip(
        denoise,
        frame_noise(options.seed, range(features.num_frames), tuple(latents.shape[1:])),
        schedule,
        windows,
        latent_scale=config.latent_scale,
        coupling=options.coupling,
        windows_per_batch=batch,
        on_window=denoise.on_window,
        state_file=state,
        fingerprint=identity,
        memory_advice=lambda cells, count: memory_advice(config, dtype, cells, count, room),
    )
    if state is not None:
        state.remove()
    return segments, report(segments, denoise, options, model, needed * batch, going_on)


def appearance_tokens(model: HostedModel, latents: Tensor, text: Tensor) -> dict[str, Tensor]:
    """What the portrait looks like, by attention layer, on the device of the networks."""
    config, dtype = model.model.config, model.model.dtype
    needed = bytes_per_window(config, tuple(latents.shape[-2:]), dtype, window=1)
    network, device = patchers.load(model.appearance_net, needed), model.appearance_net.load_device
    with torch.no_grad():
        return network(latents.to(device, dtype), text.to(device, dtype))


def windows_per_batch(model: HostedModel, cells: tuple[int, int], frames: int) -> int:
    """As many as the device has room for; one on a CPU, which gains nothing from more."""
    network = model.denoising_unet
    if network.load_device.type == "cpu":
        return 1
    return windows_that_fit(
        patchers.free_bytes(network), model.model.config, cells, model.model.dtype, frames
    )


def render_identity(fingerprint: str, share: Share, options: ReenactOptions) -> str:
    """The same for all parts of one render and for nothing else; names its state and marks its segments."""
    settings = [options.seed, options.steps, options.plan, options.overlap, options.coupling]
    values = json.dumps([fingerprint, share.window_frames, *settings])
    return hashlib.sha256(values.encode()).hexdigest()[:32]


def report(
    segments: PortraitSegments,
    denoise: WatchedDenoiser,
    options: ReenactOptions,
    model: HostedModel,
    needed: int,  # bytes
    going_on: bool,
) -> str:
    """What was rendered, how fast, and with how much memory."""
    network, dtype = model.denoising_unet, str(model.model.dtype).removeprefix("torch.")
    frames = len({frame for window in segments.frames for frame in window})
    share = denoise.done / (len(segments.frames) * options.steps)  # of the work, done in this run
    pace = denoise.seconds / max(share, 1e-9) / frames
    lines = [
        f"{frames} of {segments.num_frames} frames in {len(segments.frames)} windows of "
        f"{len(segments.frames[0])}, {options.steps} steps, {dtype} on {network.load_device}",
        f"{clock(denoise.seconds)} for the denoising, {pace:.2f} s a frame",
        f"memory: about {needed / GIGABYTE:.1f} GB beside the weights of "
        f"{network.model_size() / GIGABYTE:.1f} GB",
    ]
    if going_on:
        lines.append(f"went on from a render that had stopped at {1 - share:.0%}")
    return "\n".join(lines)
