"""Frames in which the face was not found: how many, where, and what to put there."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from .blending import blend_frames
from .track import FaceTrack

MissingPolicy = Literal["raise", "hold", "interpolate"]
POLICIES = ("raise", "hold", "interpolate")


def frame_ranges(
    mask: Tensor,  # (F,) bool
) -> list[tuple[int, int]]:  # first and last frame of each run of True, inclusive
    """The runs of True as inclusive ranges: [F T T F T] gives [(1, 2), (4, 4)]."""
    ranges: list[tuple[int, int]] = []
    for frame in mask.nonzero().flatten().tolist():
        if ranges and ranges[-1][1] == frame - 1:
            ranges[-1] = (ranges[-1][0], frame)
        else:
            ranges.append((frame, frame))
    return ranges


def format_ranges(ranges: list[tuple[int, int]], limit: int = 8) -> str:
    """As people write them: "3, 12-18"; "none" when empty; the first `limit` of a long list."""
    if not ranges:
        return "none"
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in ranges[:limit]]
    more = len(ranges) - limit
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def fill_missing(track: FaceTrack, policy: MissingPolicy) -> FaceTrack:
    """Usable values in every frame.

    `raise` refuses a track with missing frames; `hold` repeats the last frame with a face (before the first
    one: the first); `interpolate` moves evenly between the frames around a gap and holds at the ends. Filled
    frames keep found=False and get confidence 0 and error NaN. A track without missing frames is returned as
    it is.
    """
    if policy not in POLICIES:
        raise ValueError(f"missing={policy!r}; expected one of {', '.join(POLICIES)}")
    found = track.found.cpu()
    if bool(found.all()):
        return track
    missing = format_ranges(frame_ranges(~found))
    if not bool(found.any()):
        raise ValueError(
            f"no face was found in any of the {track.num_frames} frames; use pictures in which a face is "
            "visible"
        )
    if policy == "raise":
        raise ValueError(
            f"no face was found in {int((~found).sum())} of {track.num_frames} frames ({missing}); cut "
            "these frames "
            "away, or choose what to show there: hold or interpolate"
        )
    before, after, amount = between(found)
    if policy == "hold":
        amount = torch.zeros_like(amount)
    device = track.pose.device
    filled = blend_frames(track, before.to(device), after.to(device), amount.to(device))
    lost = ~track.found
    landmarks = None
    if track.landmarks is not None:
        landmarks = track.landmarks.masked_fill(lost[:, None, None], torch.nan)
    return replace(
        filled,
        found=track.found,
        confidence=track.confidence.masked_fill(lost, 0.0),
        error=track.error.masked_fill(lost, torch.nan),
        landmarks=landmarks,
    )


def between(
    found: Tensor,  # (F,) bool, at least one True
) -> tuple[Tensor, Tensor, Tensor]:  # (F,) each
    """The found frame at or before each frame, the one at or after it (beyond the ends: the nearest), and the
    share of the way from the first to the second."""
    before, after = _neighbours(found)
    amount = (torch.arange(len(found)) - before).float() / (after - before).clamp(min=1)
    return before, after, torch.where(before == after, torch.zeros_like(amount), amount)


def _neighbours(
    found: Tensor,  # (F,) bool, at least one True
) -> tuple[Tensor, Tensor]:  # (F,) the found frame at or before, and at or after; at the ends the nearest
    places = found.nonzero().flatten()
    frames = torch.arange(len(found))
    before = places[(torch.searchsorted(places, frames, right=True) - 1).clamp(min=0)]
    after = places[torch.searchsorted(places, frames).clamp(max=len(places) - 1)]
    first, last = places[0], places[-1]
    before, after = torch.where(frames < first, first, before), torch.where(frames > last, last, after)
    return before, after
