"""From pictures to a FaceTrack: find and follow the face, fit the head, fill gaps, smooth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from ..head.model import HeadModel
from .bridging import bridge_covers
from .fitting import FitOptions, OnStep, fit_track
from .following import FaceChoice, follow_face
from .landmarker import Landmarker
from .missing import MissingPolicy, fill_missing
from .observation import FaceObservations
from .report import track_report
from .smoothing import SmoothingOptions, smooth
from .track import FaceTrack

OnFrame = Callable[[int], None]  # frames looked at so far; may raise to cancel


@dataclass(frozen=True)
class TrackingOptions:
    """How a clip becomes a track."""

    choice: FaceChoice = FaceChoice()
    fit: FitOptions = FitOptions()
    missing: MissingPolicy = "interpolate"
    smoothing: SmoothingOptions = SmoothingOptions()


@dataclass(frozen=True)
class TrackingResult:
    track: FaceTrack
    observations: FaceObservations
    report: str


def track_face(
    frames: Iterable[Tensor],  # each (3, H, W) in [-1, 1]; read once, one at a time
    landmarker: Landmarker,
    head: HeadModel,
    fps: float,
    options: TrackingOptions | None = None,
    on_frame: OnFrame | None = None,
    on_step: OnStep | None = None,
) -> FaceTrack:
    """The track of one person through a clip; every frame has usable values.

    Raises ValueError with one sentence when no face is found at all, or in some frames under the policy
    "raise".
    """
    return track_face_with_report(frames, landmarker, head, fps, options, on_frame, on_step).track


def track_face_with_report(
    frames: Iterable[Tensor],
    landmarker: Landmarker,
    head: HeadModel,
    fps: float,
    options: TrackingOptions | None = None,
    on_frame: OnFrame | None = None,
    on_step: OnStep | None = None,
) -> TrackingResult:
    """As `track_face`, with what the landmark network saw and a report for people."""
    options = options or TrackingOptions()
    observations = follow_face(frames, landmarker, options.choice, fps, on_frame)
    return track_observations(observations, head, options, on_step)


def track_observations(
    observations: FaceObservations,
    head: HeadModel,
    options: TrackingOptions | None = None,
    on_step: OnStep | None = None,
) -> TrackingResult:
    """The same from landmarks that are known already (another tracker's, for example the host's)."""
    options = options or TrackingOptions()
    _check_found(observations)
    track = fit_track(head, observations, options.fit, on_step)
    track = smooth(fill_missing(bridge_covers(track), options.missing), options.smoothing)
    return TrackingResult(
        track, observations, track_report(track, observations.num_faces, observations.notes)
    )


def track_portrait(
    image: Tensor,  # (3, H, W) in [-1, 1]
    landmarker: Landmarker,
    head: HeadModel,
    options: TrackingOptions | None = None,
) -> FaceTrack:
    """The track of a single picture: one frame, fps 0."""
    return track_portrait_with_report(image, landmarker, head, options).track


def track_portrait_with_report(
    image: Tensor,  # (3, H, W) in [-1, 1]
    landmarker: Landmarker,
    head: HeadModel,
    options: TrackingOptions | None = None,
) -> TrackingResult:
    """As `track_portrait`, with what the landmark network saw and a report for people."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"a portrait must be one picture (3, height, width), got shape {tuple(image.shape)}")
    options = replace(options or TrackingOptions(), missing="raise")
    return track_face_with_report([image], landmarker, head, 0.0, options)


def _check_found(observations: FaceObservations) -> None:
    if bool(observations.found.any()):
        return
    height, width = observations.size
    seen = int(observations.num_faces.max()) if observations.num_faces.numel() else 0
    what = "the picture" if observations.num_frames == 1 else f"any of the {observations.num_frames} frames"
    if seen:
        raise ValueError(
            f"{seen} face(s) were seen in {what}, but not the chosen one (face {observations.face_index}); "
            "choose face 0, or another rule"
        )
    raise ValueError(
        f"no face was found in {what} ({width}x{height}); use a picture in which one human face is visible, "
        "not in full profile, and at least 32 pixels wide"
    )
