"""What travels along our wires. Every value carries the head model it needs, so that graphs stay small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.latest import io

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from comfy.model_patcher import ModelPatcher

    from ..magicportrait_core.head.model import HeadModel
    from ..magicportrait_core.models.model import MagicPortraitModel
    from ..magicportrait_core.tracking.landmarker import Landmarker
    from ..magicportrait_core.tracking.track import FaceTrack

HeadTrackerSocket = io.Custom("HEAD_TRACKER")  # HeadTracker
FaceTrackSocket = io.Custom("FACE_TRACK")  # HeadTrack
GuidanceMapsSocket = io.Custom("GUIDANCE_MAPS")  # magicportrait_core.guidance.GuidanceMaps
ModelSocket = io.Custom("MAGICPORTRAIT_MODEL")  # HostedModel
MotionFeaturesSocket = io.Custom("MOTION_FEATURES")  # magicportrait_core.motion_features.MotionFeatures
SegmentsSocket = io.Custom("PORTRAIT_SEGMENTS")  # magicportrait_core.diffusion.segments.PortraitSegments
FaceLandmarksSocket = io.Custom("FACE_LANDMARKS")  # the host's own type, see comfy_extras/nodes_mediapipe.py


@dataclass(frozen=True)
class HeadTracker:
    """A head model and the landmark networks that are fitted with it."""

    head: HeadModel  # on the CPU, where the fit runs
    landmarker: Landmarker  # on `device`
    device: torch.device
    file: Path | None = None  # where the head was read from; None for the built-in one


@dataclass(frozen=True)
class HeadTrack:
    """A track together with the head whose coefficients it holds."""

    head: HeadModel  # on the CPU
    track: FaceTrack  # on the CPU


@dataclass(frozen=True)
class HostedModel:
    """The networks of a model, each behind a patcher with which the host moves it to the device and back."""

    model: MagicPortraitModel
    appearance_net: ModelPatcher
    denoising_unet: ModelPatcher
    guidance_encoders: ModelPatcher

    def get_models(self) -> list[ModelPatcher]:
        """For the host, which keeps count of the models of a graph."""
        return [self.appearance_net, self.denoising_unet, self.guidance_encoders]


def check_same_head(portrait: HeadTrack, motion: HeadTrack) -> None:
    """Refuses tracks of different heads: their coefficients mean different things."""
    first, second = portrait.track.head, motion.track.head
    if first != second:
        raise ValueError(
            f"portrait_track belongs to the head {first!r}, the other track to {second!r}; make both with "
            "the same Load FLAME Tracker"
        )
