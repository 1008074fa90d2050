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
    from ..magicportrait_core.head.texture_space import TextureSpace
    from ..magicportrait_core.models.model import MagicPortraitModel
    from ..magicportrait_core.tracking.landmarker import Landmarker
    from ..magicportrait_core.tracking.released_tracker import ReleasedTracker
    from ..magicportrait_core.tracking.track import FaceTrack

HeadTrackerSocket = io.Custom("HEAD_TRACKER")  # HeadTracker
FaceTrackSocket = io.Custom("FACE_TRACK")  # HeadTrack
GuidanceMapsSocket = io.Custom("GUIDANCE_MAPS")  # magicportrait_core.guidance.GuidanceMaps
WarpSocket = io.Custom("PORTRAIT_WARP")  # magicportrait_core.face_view.ViewedWarp
ModelSocket = io.Custom("MAGICPORTRAIT_MODEL")  # HostedModel
MotionFeaturesSocket = io.Custom("MOTION_FEATURES")  # magicportrait_core.motion_features.MotionFeatures
SegmentsSocket = io.Custom("PORTRAIT_SEGMENTS")  # magicportrait_core.diffusion.segments.PortraitSegments
FaceLandmarksSocket = io.Custom("FACE_LANDMARKS")  # the host's own type, see comfy_extras/nodes_mediapipe.py


@dataclass(frozen=True)
class ReleasedEncoders:
    """DECA and SMIRK behind a patcher, with which the host moves them to the device and back."""

    tracker: ReleasedTracker
    patcher: ModelPatcher  # of both encoders
    gaze: bool  # whether eyes follow what the landmark network sees
    full_resolution: bool  # whether DECA sees more than 512 pixels of a picture


@dataclass(frozen=True)
class HeadTracker:
    """A head model and the networks that track faces with it."""

    head: HeadModel  # on the CPU, where the fit runs
    landmarker: Landmarker  # on `device`
    device: torch.device
    file: Path | None = None  # where the head was read from; None for the built-in one
    released: ReleasedEncoders | None = None  # None: the head is fitted to landmarks

    def get_models(self) -> list[ModelPatcher]:
        """For the host, which keeps count of the models of a graph."""
        return [self.released.patcher] if self.released else []

    def with_head(self, track: FaceTrack) -> HeadTrack:
        texture = self.released.tracker.texture if self.released else None
        return HeadTrack(self.head, track, texture, self.file)


@dataclass(frozen=True)
class HeadTrack:
    """A track together with the head whose coefficients it holds."""

    head: HeadModel  # on the CPU
    track: FaceTrack  # on the CPU
    texture: TextureSpace | None = None  # skin for the track's texture codes, where the tracker has it
    file: Path | None = None  # as in HeadTracker

    @property
    def released(self) -> bool:
        """Whether DECA and SMIRK read it: their codes of texture and light stay with the track."""
        return self.track.texture is not None and self.track.light is not None


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
