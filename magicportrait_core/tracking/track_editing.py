"""Editing a track as one edits a clip: pick frames, join pieces, change the frame rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..rendering.camera import Camera
from .blending import blend_frames
from .track import PER_FRAME, FaceTrack


def select(track: FaceTrack, frames: Sequence[int]) -> FaceTrack:
    """The frames with these numbers, in this order; a number may come twice. Negative numbers count from the
    end.
    """
    if len(frames) == 0:
        raise ValueError("no frame numbers were given; name at least one frame to keep")
    outside = [i for i in frames if not -track.num_frames <= i < track.num_frames]
    if outside:
        raise ValueError(
            f"frame {outside[0]} is not in the track, which has frames 0 to {track.num_frames - 1}; "
            "choose numbers in that range"
        )
    index = torch.tensor([i % track.num_frames for i in frames], device=track.expression.device)
    return track[index]


def concatenate(tracks: Sequence[FaceTrack]) -> FaceTrack:
    """One track after the other: the same head, person, picture size, projection and frame rate."""
    if len(tracks) == 0:
        raise ValueError("no tracks were given; connect at least one")
    first = tracks[0]
    for number, track in enumerate(tracks[1:], start=2):
        _check_same(first, track, number)
    rows = {name: [getattr(t, name) for t in tracks] for name in PER_FRAME}
    return replace(
        first,
        **{
            name: None if any(v is None for v in values) else torch.cat(values)
            for name, values in rows.items()
        },
        camera=Camera(
            view=torch.cat([t.camera.view for t in tracks]),
            intrinsics=torch.cat([t.camera.intrinsics for t in tracks]),
            size=first.size,
            projection=first.camera.projection,
        ),
    )


def resample(track: FaceTrack, fps: float) -> FaceTrack:
    """The same motion at another frame rate; the duration is kept to within half a new frame.

    New frame j shows time j / fps: rotations along the arc, the rest along the line between the two nearest
    old frames. A new frame counts as found when the frames it comes from are. The same rate returns the track
    itself.
    """
    if not fps > 0:
        raise ValueError(f"fps={fps}; expected a frame rate above 0")
    if track.fps == 0 and track.num_frames == 1:
        raise ValueError(
            "the track is a single picture and has no frame rate; repeat it with select() instead"
        )
    if track.fps == 0:
        raise ValueError("the track has no frame rate to start from; set its fps first (dataclasses.replace)")
    if fps == track.fps:
        return track
    count = max(1, round(track.num_frames * fps / track.fps))
    place = (torch.arange(count, dtype=torch.float64) * track.fps / fps).clamp(max=track.num_frames - 1)
    place = torch.where((place - place.round()).abs() < 1e-6, place.round(), place)
    first = place.floor().long()
    second = (first + 1).clamp(max=track.num_frames - 1)
    device = track.pose.device
    blended = blend_frames(track, first.to(device), second.to(device), (place - first).float().to(device))
    return replace(blended, fps=float(fps))


def _check_same(first: FaceTrack, other: FaceTrack, number: int) -> None:
    facts = {
        "head model": (first.head, other.head, "track both clips with the same head"),
        "picture size": (first.size, other.size, "scale the pictures to one size before tracking"),
        "projection": (first.camera.projection, other.camera.projection, "use one tracker for both"),
        "frame rate": (first.fps, other.fps, "resample one of them first"),
    }
    for name, (left, right, remedy) in facts.items():
        if left != right:
            raise ValueError(f"track 1 has {name} {left} and track {number} has {right}; {remedy}")
    if first.shape.shape != other.shape.shape or not torch.equal(first.shape, other.shape):
        raise ValueError(
            f"track 1 and track {number} have different face shapes, as of two people or two fits; track "
            "the joined "
            "pictures as one clip, or give both the same shape (dataclasses.replace)"
        )
