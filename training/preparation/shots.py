"""Where a video is cut: neighbouring frames whose colours have little to do with one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from magicportrait_core.tracking.following import overview

LEVELS = 8  # of each colour in the histogram
SAMPLES = 96  # rows and columns that are counted, about
HISTOGRAM_CHANGE = 0.3  # share of the pixels whose colour class changes at a cut; 0.06 in lively shots
PLACE_CHANGE = 0.25  # mean change of the picture's 8x8 cells, in [-1, 1] units; 0.04 in lively shots


@dataclass(frozen=True)
class Look:
    """What is remembered of a frame."""

    histogram: Tensor  # (LEVELS^3,) shares
    overview: Tensor  # (3, 8, 8)

    @classmethod
    def of(
        cls,
        frame: Tensor,  # (3, H, W) in [-1, 1]
    ) -> Look:
        rows, columns = (max(1, side // SAMPLES) for side in frame.shape[1:])
        classes = ((frame[:, ::rows, ::columns] + 1) / 2 * LEVELS).long().clamp(0, LEVELS - 1)
        numbers = (classes[0] * LEVELS + classes[1]) * LEVELS + classes[2]
        return cls(numbers.flatten().bincount(minlength=LEVELS**3) / numbers.numel(), overview(frame))


def is_cut(before: Look, after: Look) -> bool:
    changed = float((after.histogram - before.histogram).abs().sum()) / 2
    moved = float((after.overview - before.overview).abs().mean())
    return changed > HISTOGRAM_CHANGE or moved > PLACE_CHANGE


def shots(frames: Iterable[Tensor]) -> Iterator[Iterator[Tensor]]:
    """The frames of each shot in turn; every frame is read once. What is not taken of a shot is skipped."""
    rest = iter(frames)
    following: list[Tensor] = [frame for frame in [next(rest, None)] if frame is not None]

    def shot() -> Iterator[Tensor]:
        frame = following.pop()
        before = Look.of(frame)
        yield frame
        for frame in rest:
            after = Look.of(frame)
            if is_cut(before, after):
                following.append(frame)
                return
            before = after
            yield frame

    while following:
        one = shot()
        yield one
        for _ in one:
            pass


def jumps(
    points: Tensor,  # (F, K, 3) pixels; NaN where there is no face
    share: float,  # of the face's larger side by which all landmarks move between frames at a jump
) -> Tensor:  # (F,) bool, True at the first frame after a jump
    """Frames whose face stands elsewhere, or is another size, than in the frame before."""
    out = torch.zeros(len(points), dtype=torch.bool)
    if len(points) > 1:
        flat = points[..., :2]
        side = (flat.amax(1) - flat.amin(1)).amax(1)
        moved = (flat[1:] - flat[:-1]).norm(dim=-1).median(1).values
        out[1:] = moved / torch.minimum(side[1:], side[:-1]) > share
    return out
