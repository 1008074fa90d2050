"""What travels along our wires. Every value carries the head model it needs, so that graphs stay small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.latest import io

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from ..magicportrait_core.head.model import HeadModel
    from ..magicportrait_core.tracking.landmarker import Landmarker
    from ..magicportrait_core.tracking.track import FaceTrack

HeadTrackerSocket = io.Custom("HEAD_TRACKER")  # HeadTracker
FaceTrackSocket = io.Custom("FACE_TRACK")  # HeadTrack
GuidanceMapsSocket = io.Custom("GUIDANCE_MAPS")  # magicportrait_core.guidance.GuidanceMaps
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


def check_same_head(portrait: HeadTrack, motion: HeadTrack) -> None:
    """Refuses tracks of different heads: their coefficients mean different things."""
    first, second = portrait.track.head, motion.track.head
    if first != second:
        raise ValueError(
            f"portrait_track belongs to the head {first!r}, the other track to {second!r}; make both with "
            "the same Load FLAME Tracker"
        )
