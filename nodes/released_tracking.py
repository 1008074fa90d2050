"""Tracking with DECA and SMIRK: the host's side of core's released tracker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.model_patcher
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..magicportrait_core.tracking.following import FaceChoice
    from ..magicportrait_core.tracking.landmarker import Landmarker
    from ..magicportrait_core.tracking.observation import FaceObservations
    from ..magicportrait_core.tracking.released_tracker import ReleasedOptions, ReleasedTracker
    from ..magicportrait_core.tracking.smoothing import SmoothingOptions
    from ..magicportrait_core.tracking.tracker import TrackingResult
    from .sockets import ReleasedEncoders

BYTES_PER_FACE = 100_000_000  # of both networks' activations
FACES = {"cpu": 4}  # encoded together; few on a CPU, where a cancel waits for them
FACES_ELSEWHERE = 16


def host_encoders(tracker: ReleasedTracker, device: torch.device) -> ModelPatcher:
    """Both encoders behind one patcher. They stay torch's own layers: 100 MB are loaded as a whole."""
    return comfy.model_patcher.CoreModelPatcher(
        nn.ModuleList((tracker.deca, tracker.smirk)),
        load_device=device,
        offload_device=comfy.model_management.unet_offload_device(),
    )


def track_clip(
    frames: Iterable[Tensor],
    encoders: ReleasedEncoders,
    landmarker: Landmarker,
    fps: float,
    options: ReleasedOptions,
    observations: FaceObservations | None = None,
) -> TrackingResult:
    """The chosen face in every frame; frames are read once, and progress and cancelling come with them."""
    from ..magicportrait_core.tracking.released_tracker import track_released

    ready = _on_device(encoders, landmarker, options)
    return track_released(frames, ready, fps, options, observations=observations)


def track_picture(
    picture: Tensor,  # (3, H, W) in [-1, 1]
    encoders: ReleasedEncoders,
    landmarker: Landmarker,
    choice: FaceChoice,
    observations: FaceObservations | None = None,
) -> TrackingResult:
    """The chosen face of a portrait."""
    from ..magicportrait_core.tracking.released_tracker import track_portrait_released

    options = options_of(encoders, choice)
    ready = _on_device(encoders, landmarker, options)
    return track_portrait_released(picture, ready, options, observations)


def options_of(
    encoders: ReleasedEncoders,
    choice: FaceChoice,
    missing: str = "raise",
    smoothing: SmoothingOptions | None = None,
) -> ReleasedOptions:
    from ..magicportrait_core.tracking.released_crops import CropRules
    from ..magicportrait_core.tracking.released_tracker import RAW, ReleasedOptions

    batch = FACES.get(encoders.patcher.load_device.type, FACES_ELSEWHERE)
    crops = CropRules(working_side=not encoders.full_resolution)
    return ReleasedOptions(choice, missing, smoothing or RAW, encoders.gaze, crops, batch)


def _on_device(
    encoders: ReleasedEncoders, landmarker: Landmarker, options: ReleasedOptions
) -> ReleasedTracker:
    needed = BYTES_PER_FACE * options.batch
    comfy.model_management.load_models_gpu([encoders.patcher], memory_required=needed)
    return replace(encoders.tracker, landmarker=landmarker)
