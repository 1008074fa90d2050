"""One render of MagicPortrait Sampler: one network after the other on the device, then window by window."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from ..magicportrait_core.denoiser import GuidedDenoiser, check_guidance
from ..magicportrait_core.diffusion.memory import bytes_per_window, memory_advice, windows_that_fit
from ..magicportrait_core.diffusion.noise import frame_noise
from ..magicportrait_core.diffusion.sampler import sample_clip
from ..magicportrait_core.diffusion.schedule import ddim_schedule
from ..magicportrait_core.diffusion.windows import part_of
from ..magicportrait_core.media.image import to_levels
from ..magicportrait_core.reference import check_same_aspect, resize_portrait
from ..magicportrait_core.render_options import (
    ReenactOptions,
    check_same_portrait,
    picture_size,
    planned_windows,
    render_fingerprint,
    sampling_size,
)
from . import host, patchers, states
from .foreign_inputs import check_vae, encode_portrait, text_embedding, vae_fingerprint
from .previews import WatchedDenoiser, clock

if TYPE_CHECKING:
    from comfy.sd import VAE

    from ..magicportrait_core.diffusion.segments import PortraitSegments, Windows
    from ..magicportrait_core.motion_features import MotionFeatures
    from .sockets import HostedModel

PREPARED = 0.02  # of the progress bar, when the networks before the Denoising UNet are done
GIGABYTE = 1e9


@dataclass(frozen=True)
class Share:
    """Which part of the clip's windows this sampler denoises."""

    part: int = 1  # from 1
    parts: int = 1

    def of(self, windows: Windows) -> Windows:
        if self.part > self.parts:
            raise ValueError(f"part is {self.part} but parts is {self.parts}: choose part 1 to {self.parts}")
        if self.parts > len(windows):
            raise ValueError(
                f"parts is {self.parts}, but the clip has {len(windows)} windows: choose parts 1 to "
                f"{len(windows)}"
            )
        return part_of(windows, self.part - 1, self.parts)


def render(
    model: HostedModel,
    portrait: Tensor,  # (3, H, W) in [-1, 1]
    vae: VAE | None,  # None: for models whose latents hold the pixels themselves
    features: MotionFeatures,
    conditioning: list | None,  # the host's, None: the embedding stored with the model
    options: ReenactOptions,
    share: Share,
) -> tuple[PortraitSegments, str]:
    """The segments and a report. What cannot work is refused before anything is computed."""
    config = model.model.config
    options = options.for_model(config)
    text = text_embedding(conditioning, model.model)
    check_vae(vae, config)
    check_guidance(options.guidance_scale, options.guidance_strength)
    portrait = seen_portrait(portrait, features)
    size = sampling_size(picture_size(portrait), features, model.model, options)
    windows = share.of(planned_windows(features.num_frames, config, options))
    schedule = ddim_schedule(options.steps)
    pixels = resize_portrait(portrait, size)
    check_same_portrait(pixels, features)
    identity = render_identity(
        options,
        render_fingerprint(model.model, features, pixels, text, options, vae_fingerprint(vae, config)),
    )
    state = states.state_file(identity, share.part, share.parts, options.save_every)
    going_on = state is not None and state.path.exists()

    bar = host.Progress()
    tokens = appearance_tokens(model, vae, pixels, text, bar.stage(0.0, PREPARED))
    patchers.unload(model.guidance_encoders, model.appearance_net, *([vae.patcher] if vae else []))

    needed = bytes_per_window(config, features.size, model.model.dtype, len(windows[0]))
    network = patchers.load(model.denoising_unet, needed * (options.windows_per_batch or 1))
    device, dtype = model.denoising_unet.load_device, model.model.dtype
    clip = network.condition(tokens, text.to(device, dtype))
    strengths = options.guidance_scale, options.guidance_strength
    denoiser = GuidedDenoiser(network, clip, features, device, dtype, *strengths, config)
    watched = WatchedDenoiser(denoiser, schedule, bar.stage(PREPARED, 1.0), len(windows))
    free = patchers.free_bytes(model.denoising_unet)
    batch = options.windows_per_batch or windows_per_batch(model, features.size, len(windows[0]), free)
    shape = config.unet.latent_channels, *features.size
    # A window that did not fit was more than estimated, so half of it is suggested at most.
    room = min(free, needed // 2)
    with patchers.cancellable(network):
        segments = sample_clip(
            watched,
            frame_noise(options.seed, range(features.num_frames), shape) * config.noise_scale,
            schedule,
            windows,
            latent_scale=config.latent_scale,
            coupling=options.coupling,
            windows_per_batch=batch,
            on_window=watched.on_window,
            state_file=state,
            fingerprint=identity,
            memory_advice=lambda cells, count: memory_advice(config, dtype, cells, count, room),
        )
    segments = replace(segments, render=render_identity(options, picture_fingerprint(pixels)))
    return segments, report(segments, watched, options, model, needed * batch, going_on)


def seen_portrait(portrait: Tensor, features: MotionFeatures) -> Tensor:  # (3, H, W) in [-1, 1]
    """The part of the portrait that the features are of: where a model corrects a warp, around the face."""
    if features.view is None:
        return portrait
    size, whole = picture_size(portrait), features.view.picture
    check_same_aspect(size, whole, slack=1 + max(whole) / min(whole))
    return features.view.of(size).cut(portrait)


def appearance_tokens(
    model: HostedModel, vae: VAE | None, pixels: Tensor, text: Tensor, on_step: host.OnStep
) -> dict[str, Tensor]:
    """What the portrait looks like, by attention layer, on the networks' device."""
    config, dtype = model.model.config, model.model.dtype
    latents = encode_portrait(vae, pixels, config)  # (1, C, h, w)
    on_step(1, 2)
    needed = bytes_per_window(config, tuple(latents.shape[-2:]), dtype, window=1)
    network, device = patchers.load(model.appearance_net, needed), model.appearance_net.load_device
    with patchers.cancellable(network):
        tokens = network(latents.to(device, dtype), text.to(device, dtype))
    on_step(2, 2)
    return tokens


def windows_per_batch(model: HostedModel, cells: tuple[int, int], frames: int, free: int) -> int:
    """As many as the device has room for; one on a CPU, which gains nothing from more."""
    if model.denoising_unet.load_device.type == "cpu":
        return 1
    return windows_that_fit(free, model.model.config, cells, model.model.dtype, frames)


def render_identity(options: ReenactOptions, of: str) -> str:
    """The same for all parts of one render.

    `of` the exact inputs it names the state to go on from. `of` the portrait alone it marks the segments that
    may be merged: workers of one render may compute in other precisions, and track the driver a little
    differently.
    """
    values = [of, options.seed, options.steps, options.guidance_scale, options.guidance_strength]
    values += [options.plan, options.overlap, options.window_frames, options.coupling]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]


def picture_fingerprint(pixels: Tensor) -> str:  # (3, H, W) in [-1, 1]
    return hashlib.sha256(to_levels(pixels).numpy()).hexdigest()


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
    windows = f"{len(segments.frames)} window{'s' * (len(segments.frames) != 1)}"
    share = denoise.done / (len(segments.frames) * options.steps)  # of the work, done in this run
    took = "it was finished before, and kept"
    if share:
        took = f"{clock(denoise.seconds)} for the denoising, {denoise.seconds / share / frames:.2f} s a frame"
    lines = [
        f"{frames} of {segments.num_frames} frames in {windows} of {len(segments.frames[0])}, "
        f"{options.steps} step{'s' * (options.steps != 1)}, {dtype} on {network.load_device}",
        took,
        f"memory: about {needed / GIGABYTE:.1f} GB beside the weights of "
        f"{network.model_size() / GIGABYTE:.1f} GB",
    ]
    if going_on and share:
        lines.append(f"went on from a render that had stopped at {1 - share:.0%}")
    return "\n".join(lines)
