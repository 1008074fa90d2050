"""Which frames of a shot become clips, and what is wrong with the rest, from the landmarks alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from magicportrait_core.tracking.observation import FaceObservations
from magicportrait_core.tracking.released_crops import Box, box_of, portrait_transform
from magicportrait_core.tracking.report import CUT_JUMP
from training.preparation.options import PrepareOptions
from training.preparation.shots import jumps

OVERHANG = 0.02  # of the crop's side by which the face's box may leave the crop


@dataclass(frozen=True)
class Fault:
    """Why a clip is dropped."""

    reason: str  # a few words, to count by
    detail: str


@dataclass(frozen=True)
class Span:
    """Frames [start, stop) of the video. `box` is the face's in the first of them, which crops all."""

    start: int
    stop: int
    box: Box | None = None  # left, top, right, bottom, pixels of the video
    observations: FaceObservations | None = None  # of these frames, pixels of the video
    fault: Fault | None = None
    figures: dict[str, float] | None = None

    @property
    def frames(self) -> int:
        return self.stop - self.start


def spans_of(
    observations: FaceObservations,
    start: int,  # frame of the video at which the shot begins
    options: PrepareOptions,
) -> list[Span]:
    """Everything a shot gives, in order: clips, and faulty pieces."""
    out = []
    for first, stop in runs(observations, options.filters.min_presence):
        part = observations[first:stop]
        if stop - first < options.min_frames:
            seen = f"the face is seen for {stop - first} frames on end, {options.min_frames} are needed"
            out.append(Span(start + first, start + stop, fault=Fault("too short", seen)))
            continue
        for begin, end in pieces(part.points, options):
            span = Span(
                start + first + begin,
                start + first + end,
                box_of(part.points[begin]),
                part[begin:end],
            )
            out.append(replace(span, fault=_fault(span, options), figures=_figures(span)))
    return out


def runs(observations: FaceObservations, min_presence: float) -> list[tuple[int, int]]:
    """Stretches [start, stop) in which the face is seen in every frame and moves without a jump."""
    good = (observations.found & (observations.presence >= min_presence)).tolist()
    breaks = jumps(observations.points, CUT_JUMP).tolist()
    out, begin = [], None
    for frame, (seen, broken) in enumerate(zip(good, breaks, strict=True)):
        if begin is not None and (not seen or broken):
            out.append((begin, frame))
            begin = None
        if seen and begin is None:
            begin = frame
    return out if begin is None else [*out, (begin, len(good))]


def pieces(
    points: Tensor,  # (F, K, 3) pixels
    options: PrepareOptions,
) -> list[tuple[int, int]]:
    """Clips [start, stop) of a run, about equally long: each ends where the face leaves the crop of its first
    frame, or where it is long enough."""
    out, begin = [], 0
    while begin < len(points):
        stop = begin + _stays_inside(points[begin:])
        count = math.ceil((stop - begin) / options.clip_frames)
        length = math.ceil((stop - begin) / count)
        if length < options.min_frames:
            length = options.clip_frames
        end = min(begin + length, stop)
        out.append((begin, end))
        begin = end
    return out


def to_crop(observations: FaceObservations, box: Box, size: int) -> FaceObservations:
    """The same faces in pixels of the crop. The crop's coordinates count from the first pixel's centre,
    landmarks from its corner."""
    (k, _, x), (_, _, y) = portrait_transform(box, size).tolist()
    offset = observations.points.new_tensor([x + (1 - k) / 2, y + (1 - k) / 2, 0.0])
    return replace(observations, points=observations.points * k + offset, size=(size, size))


def outside_share(box: Box, size: tuple[int, int]) -> float:
    """Share of the crop around a face's box that lies outside of a picture of `size` (height, width)."""
    (k, _, x), (_, _, y) = portrait_transform(box, 1).tolist()
    inside = 1.0
    for corner, length in ((x, size[1]), (y, size[0])):  # of the picture, in sides of the crop
        inside *= max(0.0, min(corner + k * length, 1.0) - max(corner, 0.0))
    return 1 - inside


def motion_of(
    points: Tensor,  # (F, K, 3) pixels
) -> float:
    """How far the landmarks are from their mean place, root mean square in widths of the face."""
    flat = points[..., :2]
    width = (flat[..., 0].amax(1) - flat[..., 0].amin(1)).mean()
    return float((flat - flat.mean(0)).square().sum(-1).mean().sqrt() / width)


def _stays_inside(points: Tensor) -> int:
    """Frames from the first on in which the face lies within the first one's crop; at least 1."""
    (k, _, x), (_, _, y) = portrait_transform(box_of(points[0]), 1).tolist()
    placed = points[..., :2] * k + points.new_tensor([x, y])
    outside = (placed.amin((1, 2)) < -OVERHANG) | (placed.amax((1, 2)) > 1 + OVERHANG)
    outside[0] = False
    return int(outside.int().argmax()) if bool(outside.any()) else len(points)


def _figures(span: Span) -> dict[str, float]:
    left, _, right, _ = span.box
    return {
        "face_pixels": round(right - left, 1),
        "outside": round(outside_share(span.box, span.observations.size), 3),
        "motion": round(motion_of(span.observations.points), 4),
        "presence": round(float(span.observations.presence.min()), 3),
    }


def _fault(span: Span, options: PrepareOptions) -> Fault | None:
    figures, filters = _figures(span), options.filters
    if span.frames < options.min_frames:
        text = f"the face stays in its crop for {span.frames} frames, {options.min_frames} are needed"
        return Fault("too short", text)
    if figures["face_pixels"] < options.min_face:
        text = f"{figures['face_pixels']:.0f} pixels across, at least {options.min_face:.0f} are wanted"
        return Fault("small face", text)
    if figures["outside"] > filters.max_outside:
        text = f"{100 * figures['outside']:.0f} % of the crop lies outside of the picture, at most "
        return Fault("beyond the picture", text + f"{100 * filters.max_outside:.0f} % may")
    if not torch.isfinite(span.observations.points).all():
        return Fault("tracking", "landmarks are missing")
    if figures["motion"] < filters.min_motion:
        text = (
            f"landmarks move by {figures['motion']:.4f} face widths, at least {filters.min_motion:g} wanted"
        )
        return Fault("hardly moves", text)
    return None
