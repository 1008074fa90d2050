"""A sheet of one pair to judge by eye: whole pictures, and the face large enough to see lips and lids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.evaluation.side_by_side import label, panel

PANEL = 300  # pixels, a panel's side
SHOWN = 6  # frames of a sheet
FACE_SIDE = 1.4  # face widths, side of the square around a face that is shown large


def telling_frames(
    telling: Sequence[Tensor],  # (F,) each; the frame with the largest value is shown
    count: int,  # frames in all
    shown: int = SHOWN,
) -> list[int]:
    """Return frames to look at, in order: the extremes, filled up with frames spread evenly."""
    chosen = [int(values.nan_to_num(-torch.inf).argmax()) for values in telling]
    spread = [round(i * (count - 1) / max(shown - 1, 1)) for i in range(shown)]
    inner = spread[1:-1][::2] + spread[1:-1][1::2]
    order = dict.fromkeys([*chosen, spread[0], spread[-1], *inner, *range(count)])
    return sorted(list(order)[:shown])


def face_square(
    points: Tensor,  # (N, K, >= 2) pixels, of all pictures; NaN: not seen
    size: tuple[int, int],  # height, width
) -> tuple[slice, slice]:
    """Return rows and columns of a square around a face in all its places."""
    flat = points[..., :2].reshape(-1, 2)
    flat = flat[flat.isfinite().all(1)]
    low, high = flat.amin(0), flat.amax(0)
    across = (points[..., 0].nan_to_num(-1e9).amax(-1) - points[..., 0].nan_to_num(1e9).amin(-1)).amax()
    side = int(min(max(FACE_SIDE * float(across), float((high - low).max()) * 1.15), *size))
    x, y = ((low + high) / 2).tolist()
    left, top = (
        round(min(max(middle - side / 2, 0), whole - side)) for middle, whole in ((x, size[1]), (y, size[0]))
    )
    return slice(top, top + side), slice(left, left + side)


def write_sheet(
    path: Path,
    portrait: Tensor,  # (3, H, W) uint8
    rows: dict[str, Tensor],  # label -> (F, 3, H', W') uint8
    large: dict[str, tuple[Tensor, tuple[slice, slice]]],  # label -> frames, and the part shown large
    portrait_part: tuple[slice, slice],
    frames: Sequence[int],
    labels: Sequence[str],  # of the frames
    side: int = PANEL,
) -> None:
    """Write a picture with a row for each entry, the portrait before each, whole or large as the row."""
    strips = [_strip(["portrait", *labels], side)]
    for name, pictures in rows.items():
        strips += [
            _strip([name], side, 1 + len(frames)),
            _row([portrait, *(pictures[i] for i in frames)], side),
        ]
    for name, (pictures, part) in large.items():
        own = portrait[:, portrait_part[0], portrait_part[1]]
        cut = [pictures[i][:, part[0], part[1]] for i in frames]
        strips += [_strip([name], side, 1 + len(frames)), _row([own, *cut], side)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(strips)).save(path)


def _row(pictures: Sequence[Tensor], side: int) -> np.ndarray:
    return np.concatenate([panel(picture, side) for picture in pictures], axis=1)


def _strip(labels: Sequence[str], side: int, panels: int | None = None) -> np.ndarray:
    padded = [*labels, *[""] * ((panels or len(labels)) - len(labels))]
    return np.concatenate([label(name, side) for name in padded], axis=1)
