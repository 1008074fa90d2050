"""The whole method: one portrait and a driving video in, the moving portrait out.

`preview` moves the photo itself, by geometry alone. `reenact` is the method from start to end, `animate` its
second half, the diffusion, from guidance maps on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from .alignment import StructuredFaceAlignment, align
from .appearance import appearance_from_portrait
from .autoencoder import Autoencoder, autoencoder_of
from .correction import corrected
from .denoiser import GuidedDenoiser
from .devices import free_memory, on_device, place
from .diffusion.aggregation import merge_segments
from .diffusion.memory import memory_advice, windows_that_fit
from .diffusion.noise import frame_noise
from .diffusion.sampler import sample_clip
from .diffusion.schedule import ddim_schedule
from .diffusion.state import StateFile
from .face_view import ViewedWarp, face_view
from .guidance import GuidanceMaps, render_guidance
from .head.assets import load_head
from .media.image import resize
from .motion_features import MapSource, MotionFeatures, encode_motion
from .reference import map_size, resize_portrait, undistorted_size, working_size
from .render_options import (
    ReenactOptions,
    Size,
    check_inputs,
    check_same_portrait,
    output_size,
    picture_size,
    planned_windows,
    render_fingerprint,
    sampling_size,
)
from .tracking.landmarker import load_landmarker
from .tracking.tracker import TrackingOptions, track_face, track_portrait
from .warp.clip import warp_clip
from .warp.source import prepare_warp
from .warped_portrait import record_warp

if TYPE_CHECKING:
    from .head.model import HeadModel
    from .head_appearance import HeadAppearance
    from .media.video import VideoReader
    from .models.config import ModelConfig
    from .models.model import MagicPortraitModel
    from .pixel_unshuffle import PixelUnshuffle
    from .tracking.landmarker import Landmarker
    from .tracking.track import FaceTrack
    from .warp.source import WarpSource
    from .warped_portrait import WarpedSource

Stage = Literal["track", "fit", "warp", "guidance", "sample", "decode"]
OnProgress = Callable[[Stage, int, int], None]  # done, of how many (0: not known); may raise to cancel
OnWarning = Callable[[str], None]  # each of Reenactment.warnings, before the long work starts


def ignore(*_: Any) -> None:
    """A callback for those who need none."""


@dataclass(frozen=True)
class Reenactment:
    """The result of `preview` or `reenact`; frames are made while they are taken."""

    frames: Iterator[Tensor]  # (3, H, W) in [-1, 1] each, of the portrait's aspect
    num_frames: int
    fps: float  # the driving video's
    warnings: tuple[str, ...]  # motion that is held back, or that a single portrait can hardly show


@torch.no_grad()
def preview(
    portrait: Tensor,  # (3, H, W) in [-1, 1]
    driving: VideoReader,
    options: ReenactOptions | None = None,  # of which the size of the result counts
    *,
    head: HeadModel | None = None,  # None: the built-in one
    landmarker: Landmarker | None = None,  # None: the built-in one
    alignment: StructuredFaceAlignment | None = None,
    tracking: TrackingOptions | None = None,
    on_progress: OnProgress = ignore,
    on_warning: OnWarning = ignore,
) -> Reenactment:
    """The portrait moved by the flow of the head: no networks but the tracker's, no package but torch's.

    Raises ValueError with one sentence for input that cannot work.
    """
    portrait = resize(portrait, output_size(picture_size(portrait), options or ReenactOptions()))
    told = {"on_progress": on_progress, "on_warning": on_warning}
    motion = _transferred(portrait, driving, True, head, landmarker, alignment, tracking, **told)
    frames = warp_clip(
        motion.source, motion.aligned, on_frame=lambda done, total: on_progress("warp", done, total)
    )
    track = motion.aligned
    return Reenactment((frame.image for frame in frames), track.num_frames, track.fps, motion.warnings)


@torch.no_grad()
def reenact(
    portrait: Tensor,  # (3, H, W) in [-1, 1]
    driving: VideoReader,
    model: MagicPortraitModel,
    vae: Autoencoder | None = None,  # of models that work on latents; small ones work on the pixels
    text: Tensor | None = None,  # (1, N, D) of the training prompt; None: the one stored with the model
    options: ReenactOptions | None = None,
    *,
    head: HeadModel | None = None,  # None: the built-in one
    landmarker: Landmarker | None = None,  # None: the built-in one
    alignment: StructuredFaceAlignment | None = None,
    tracking: TrackingOptions | None = None,
    device: torch.device | str | None = None,  # where the networks run; None: where they are
    on_progress: OnProgress = ignore,
    on_warning: OnWarning = ignore,
) -> Reenactment:
    """The portrait with the driver's expression and head motion.

    Warp-preconditioned models see the square around the face; around it, the result is the warped portrait.
    Raises ValueError with one sentence for input that cannot work: no face, a foreign VAE, values out of
    range. When anything interrupts the sampling and `options.state_file` is given, the same call goes on.
    """
    config, options = model.config, (options or ReenactOptions()).for_model(model.config)
    check_inputs(model, vae, text, options)
    on_face = config.prior is not None  # the networks look at the face alone, and correct the warp there
    if on_face:
        portrait = resize(portrait, output_size(picture_size(portrait), options))
    # What cannot be sampled is refused before the work begins.
    working_size((1, 1) if on_face else picture_size(portrait), config, options.shorter_side)

    told = {"on_progress": on_progress, "on_warning": on_warning}
    motion = _transferred(portrait, driving, config.reads_warp, head, landmarker, alignment, tracking, **told)
    head, track, still, warped = motion.head, motion.aligned, portrait, None
    if motion.source is not None:
        warped = record_warp(
            motion.source,
            track,
            on_frame=lambda done, total: on_progress("warp", done, total),
            store=options.warp_file,
        )
    if on_face:
        warped = ViewedWarp(warped, face_view(head, track))
        track, still = warped.view.cut_track(track), warped.view.cut(portrait)
    appearance = appearance_from_portrait(head, motion.portrait, portrait)
    size = working_size(picture_size(still), config, options.shorter_side)
    maps = RenderedMaps(head, track, appearance, map_size(picture_size(still), size))

    told = {"device": device, "on_progress": on_progress}
    latents = animate(still, maps, model, vae, text, options, warped=warped, **told)

    frames = decode_clip(latents, model, vae, picture_size(still), warped=warped if on_face else None, **told)
    frames = warped.paste(frames) if on_face else frames
    return Reenactment(frames, latents.shape[1], track.fps, motion.warnings)


@dataclass(frozen=True)
class Transfer:
    """What every renderer starts from."""

    head: HeadModel
    portrait: FaceTrack  # 1 frame, of the portrait itself
    source: WarpSource | None  # the portrait made ready for the warp, where that is asked for
    aligned: FaceTrack  # the portrait's head with the driver's motion
    warnings: tuple[str, ...]


def _transferred(
    portrait: Tensor,  # (3, H, W) in [-1, 1]
    driving: VideoReader,
    warps: bool,
    head: HeadModel | None,
    landmarker: Landmarker | None,
    alignment: StructuredFaceAlignment | None,
    tracking: TrackingOptions | None,
    on_progress: OnProgress,
    on_warning: OnWarning,
) -> Transfer:
    """Track both and align them; the portrait first, which takes a moment and may have no face."""
    head, landmarker = head or load_head(), landmarker or load_landmarker()
    portrait_track = track_portrait(portrait, landmarker, head, tracking)
    source = prepare_warp(head, portrait, portrait_track) if warps else None
    driving_track = track_face(
        driving,
        landmarker,
        head,
        float(driving.fps),
        tracking,
        on_frame=lambda done: on_progress("track", done, driving.num_frames),
        on_step=lambda done, total: on_progress("fit", done, total),
    )
    aligned = align(portrait_track, driving_track, alignment, head)
    warnings = aligned.warnings + (source.notes if source else ())
    for warning in warnings:
        on_warning(warning)
    return Transfer(head, portrait_track, source, aligned.track, warnings)


@torch.no_grad()
def animate(
    portrait: Tensor,  # (3, H, W) in [-1, 1]
    guidance: MapSource | MotionFeatures,  # of the clip; features decide the working size
    model: MagicPortraitModel,
    vae: Autoencoder | None = None,  # of models that work on latents; small ones work on the pixels
    text: Tensor | None = None,  # (1, N, D); None: the one stored with the model
    options: ReenactOptions | None = None,
    *,
    device: torch.device | str | None = None,  # where the networks run; None: where they are
    noise: Tensor | None = None,  # (C, F, h, w) to start from; None: drawn from options.seed
    warped: WarpedSource | None = None,  # with maps, for models that read the flow-warped portrait
    on_progress: OnProgress = ignore,
) -> Tensor:  # (C, F, h, w) float32 on the CPU, clean latents in the network's scale
    """The diffusion half: a portrait and the guidance of a clip -> the clip's latents.

    One network at a time is on the device. Raises ValueError for guidance of another aspect than the
    portrait, for values out of range, and for inputs of another model family.
    """
    config, options = model.config, (options or ReenactOptions()).for_model(model.config)
    text = check_inputs(model, vae, text, options)
    vae = autoencoder_of(vae, config)
    size = sampling_size(picture_size(portrait), guidance, model, options)
    pixels = resize_portrait(portrait, size)

    features = guidance
    if not isinstance(guidance, MotionFeatures):
        with on_device(model.guidance_encoders, device) as encoders:
            features = encode_motion(
                encoders,
                guidance,
                config,
                size,
                options.map_strengths,
                on_frame=lambda done, total: on_progress("guidance", done, total),
                store=options.features_file,
                fingerprint=model.fingerprint,
                warped=warped,
            )
    check_same_portrait(pixels, features)
    with on_device(vae.vae, device):
        reference = vae.encode(pixels[None]) * config.latent_scale  # (1, C, h, w)
    with on_device(model.appearance_net, device) as net:
        where, dtype = place(net)
        tokens = net(reference.to(where, dtype), text.to(where, dtype))

    windows = planned_windows(features.num_frames, config, options)
    on_progress("sample", 0, options.steps * len(windows))
    if noise is None:
        noise = frame_noise(options.seed, range(features.num_frames), tuple(reference.shape[1:]))
        noise *= config.noise_scale
    with on_device(model.denoising_unet, device) as unet:
        where, dtype = place(unet)
        tokens = {path: values.to(where) for path, values in tokens.items()}
        rounding = torch.float16 if options.round_tokens else None
        conditioning = unet.condition(tokens, text.to(where, dtype), rounding)
        segments = sample_clip(
            GuidedDenoiser(
                unet,
                conditioning,
                features,
                where,
                dtype,
                options.guidance_scale,
                options.guidance_strength,
                config,
            ),
            noise,
            ddim_schedule(options.steps),
            windows,
            latent_scale=config.latent_scale,
            coupling=options.coupling,
            windows_per_batch=options.windows_per_batch
            or fitting_windows(model, features.size, len(windows[0])),
            on_window=lambda done, total: on_progress("sample", done, total),
            state_file=options.state_file and StateFile(options.state_file, options.save_every),
            fingerprint=render_fingerprint(model, features, pixels, text, options, vae.fingerprint),
            memory_advice=lambda cells, count: memory_advice(config, dtype, cells, count, free_memory(where)),
        )
    return merge_segments([segments])


def decode_clip(
    latents: Tensor,  # (C, F, h, w), in the network's scale
    model: MagicPortraitModel,
    vae: Autoencoder | PixelUnshuffle | None = None,
    portrait_size: Size | None = None,  # take out the stretch of the working size; None: frames as sampled
    device: torch.device | str | None = None,
    on_progress: OnProgress = ignore,
    warped: WarpedSource | None = None,  # of models that read it: frames of its size. None: frames as sampled
) -> Iterator[Tensor]:  # (3, H, W) in [-1, 1] each, on the CPU
    """The frames of a clip, decoded one by one while they are taken.

    With the flow-warped portrait, the networks' picture corrects it: where they add nothing it is the warp.
    Raises ValueError for a warp of another clip and for one that the model does not read.
    """
    config, total = model.config, latents.shape[1]
    vae = autoencoder_of(vae, config)
    if warped is not None:
        _check_warp(warped, latents, config)
    with on_device(vae.vae, device):
        for done, frame in enumerate(vae.decode(latents.movedim(1, 0) / config.latent_scale), start=1):
            if warped is not None:
                yield corrected(warped[done - 1 : done], frame)
            elif portrait_size is not None:
                yield resize(frame, undistorted_size(portrait_size, tuple(frame.shape[-2:])))
            else:
                yield frame
            on_progress("decode", done, total)


def _check_warp(warped: WarpedSource, latents: Tensor, config: ModelConfig) -> None:
    if config.prior is None:
        raise ValueError(f"the model {config.name!r} does not correct a warped portrait; leave it out")
    if warped.num_frames != latents.shape[1]:
        raise ValueError(
            f"the warped portrait has {warped.num_frames} frames, the clip {latents.shape[1]}; give the warp "
            "that the clip was sampled with"
        )


@dataclass(frozen=True)
class RenderedMaps:
    """The guidance maps of a track, rendered when a part of them is asked for: memory for a part only."""

    head: HeadModel
    track: FaceTrack
    appearance: HeadAppearance
    size: Size

    @property
    def num_frames(self) -> int:
        return self.track.num_frames

    def __getitem__(self, frames: slice) -> GuidanceMaps:
        return render_guidance(self.head, self.track[frames], self.appearance, self.size)


def fitting_windows(model: MagicPortraitModel, cells: Size, frames: int) -> int:
    """Windows of `frames` that the device of the Denoising UNet has room for; 1 where that is not known."""
    device, dtype = place(model.denoising_unet)
    free = free_memory(device)
    return 1 if free is None else windows_that_fit(free, model.config, cells, dtype, frames)
