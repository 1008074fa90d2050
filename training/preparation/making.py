"""Frames of one face -> a training clip: track, maps, the still picture, latents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from torch import Tensor

from magicportrait_core.media.image import from_levels
from magicportrait_core.models.config import SD15_LATENT_SCALE
from magicportrait_core.resampling import resized_levels
from magicportrait_core.tracking.observation import FaceObservations
from magicportrait_core.tracking.released_tracker import ReleasedOptions, track_released
from magicportrait_core.tracking.track import FaceTrack
from magicportrait_core.tracking.tracker import track_observations
from training.clip_store import Clip
from training.preparation.clip_maps import clip_maps
from training.preparation.options import PrepareOptions
from training.preparation.quality import best_still, sharpness, strangeness
from training.preparation.spans import Fault
from training.preparation.tools import Tools


@dataclass(frozen=True)
class MadeClip:
    """A clip, or its fault; measurements of both."""

    figures: dict[str, float]
    fault: Fault | None = None
    clip: Clip | None = None
    track: FaceTrack | None = None  # of the clip's frames, in stored pixels
    still_track: FaceTrack | None = None
    notes: dict[str, str] = field(default_factory=dict)


def make_clip(
    tools: Tools,
    options: PrepareOptions,
    name: str,
    crops: Tensor,  # (F, 3, S, S) uint8, S the working size
    observations: FaceObservations,  # of the crops
) -> MadeClip:
    """Track, maps and latents of frames that look good so far."""
    filters, size = options.filters, (options.size, options.size)
    sharp = sharpness(crops, options.size)
    figures = {"sharpness": round(float(sharp.median()), 5)}
    if figures["sharpness"] < options.min_sharpness:
        text = f"sharpness {figures['sharpness']:g}, at least {options.min_sharpness:g} is wanted"
        return MadeClip(figures, Fault("blurred", text))
    track = track_crops(tools, crops, observations)
    error = track.error[track.error.isfinite()]
    if len(error):
        figures["error"] = round(float(error.mean()), 3)
        if figures["error"] > filters.max_error:
            text = f"the head misses the landmarks by {figures['error']:.1f} % of the distance of the eyes, "
            return MadeClip(figures, Fault("tracking", text + f"at most {filters.max_error:g} % may"))
    strange = strangeness(crops, observations.points.cpu())
    still = best_still(track, sharp, strange, observations.blendshapes.cpu())
    others = torch.tensor([i for i in range(len(crops)) if i != still or not options.reference])
    still_track = track[still]
    maps = clip_maps(tools, track[others], crops[still], still_track, options)
    frames = resized_levels(crops[others], size, Image.Resampling.LANCZOS)
    reference = None
    if options.reference:
        reference = resized_levels(crops[still][None], size, Image.Resampling.LANCZOS)[0]
    latents = encode(tools, frames)
    clip = Clip(
        name,
        frames.contiguous(),
        maps,
        None if reference is None else reference.contiguous(),
        latents=latents,
        reference_latents=None if latents is None or reference is None else encode(tools, reference[None])[0],
    )
    return MadeClip(
        figures,
        clip=clip,
        track=scaled(track[others], size),
        still_track=scaled(still_track, size),
        notes={"still": str(still)},
    )


def track_crops(tools: Tools, crops: Tensor, observations: FaceObservations) -> FaceTrack:
    """The head in every frame, by what was seen: fitted, or read by DECA and SMIRK."""
    if tools.released is None:
        return track_observations(observations, tools.head).track
    pictures = (from_levels(crop.movedim(0, -1)).to(tools.device) for crop in crops)
    chosen = ReleasedOptions(missing="raise")
    return track_released(pictures, tools.released, observations.fps, chosen, None, observations).track


def encode(tools: Tools, frames: Tensor) -> Tensor | None:  # (F, C, h, w) float16
    """Latents of levels (F, 3, H, W) in the network's scale, where there is a VAE."""
    if tools.vae is None:
        return None
    pictures = from_levels(frames.movedim(1, -1)).to(tools.device)
    return (tools.vae.encode(pictures) * SD15_LATENT_SCALE).half().cpu()


def scaled(track: FaceTrack, size: tuple[int, int]) -> FaceTrack:
    """The track of the same frames at another size."""
    landmarks = track.landmarks
    if landmarks is not None:
        landmarks = landmarks * (size[0] / track.size[0])
    return replace(track, camera=track.camera.resized(size), landmarks=landmarks)
