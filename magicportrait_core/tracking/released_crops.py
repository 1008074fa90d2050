"""What the released system cuts out of a picture: for DECA, for SMIRK, and the square it works in.

Facts d.2. Crops are upright squares, so they are two one-dimensional readings. As in the released code a
coordinate counts from the centre of the first pixel, outside of the picture is black, and some results are
cut down to whole levels. Pictures are read on the device they are on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

CROP = 224  # pixels, side of both encoders' input
LAST = CROP - 1  # the sides of a crop are laid on the first and the last row of pixels
WORKING_SIDE = 512  # DECA sees every picture through this size
DECA_MARGIN = 1.3 * 1.1  # side of the crop over the mean side of the 68 points' box
SMIRK_MARGIN = 1.4  # the same over the box of the 478 points
FACE_SHARE = 352 / 1.5  # pixels of the 512 crop that a face's box is wide
BLUR_REACH = 4.0  # standard deviations, as in scipy

Box = Sequence[float]  # left, top, right, bottom, pixels


@dataclass(frozen=True)
class CropRules:
    """How exactly crops follow the released system; the defaults do."""

    working_side: bool = True  # DECA reads the picture at 512 pixels; False: at its own size, sharper
    truncate: bool = True  # values between whole levels are cut down; False: kept


@dataclass(frozen=True)
class FaceCrop:
    """A crop and where it lies."""

    picture: Tensor  # (3, 224, 224) RGB, 0..1
    transform: Tensor  # (3, 3) crop pixels -> pixels of a picture of `size`, for row vectors
    size: tuple[int, int]  # height, width the picture was read at


def box_of(
    points: Tensor,  # (N, 2 or 3) pixels
) -> tuple[float, float, float, float]:
    """left, top, right, bottom of points."""
    low, high = points[:, :2].amin(0), points[:, :2].amax(0)
    return (*low.tolist(), *high.tolist())


def deca_crop(
    picture: Tensor,  # (3, H, W) in [-1, 1]
    box: Box,  # of the 68 iBUG points
    rules: CropRules = CropRules(),
) -> FaceCrop:
    """DECA's input. The picture is first brought to 512 pixels on its longer side, with its aspect (the
    released system's pictures are square)."""
    size = working_size(picture.shape[-2:]) if rules.working_side else tuple(picture.shape[-2:])
    scale = (size[1] / picture.shape[-1], size[0] / picture.shape[-2])
    left, top, side = _square([b * scale[i % 2] for i, b in enumerate(box)], DECA_MARGIN)
    rows, columns = (_reach(start, side, length) for start, length in zip((top, left), size, strict=True))
    levels = _resized(picture, size, rows, columns)
    if rules.truncate:
        levels = _cut_down(levels, exact=size == tuple(picture.shape[-2:]))
    crop = _read_square(levels, left - columns.start, top - rows.start, side)
    return FaceCrop(crop / 255, _transform(left, top, side), size)


def smirk_crop(
    picture: Tensor,  # (3, H, W) in [-1, 1]
    box: Box,  # of the 478 points
    rules: CropRules = CropRules(),
) -> FaceCrop:
    """SMIRK's input."""
    size = tuple(picture.shape[-2:])
    left, top, side = _square(box, SMIRK_MARGIN)
    rows, columns = (_reach(start, side, length) for start, length in zip((top, left), size, strict=True))
    crop = _read_square(to_levels(picture[:, rows, columns]), left - columns.start, top - rows.start, side)
    if rules.truncate:
        crop = crop.floor()
    return FaceCrop(crop / 255, _transform(left, top, side), size)


def portrait_transform(
    box: Box,  # of the face, by a face detector
    size: int = WORKING_SIDE,
) -> Tensor:  # (2, 3) picture pixels -> crop pixels
    """The released square crop: 2.18 times as wide as the face's box, around its centre, black outside."""
    left, top, right, bottom = box
    k = FACE_SHARE / (right - left) * size / WORKING_SIDE
    return torch.tensor(
        [[k, 0.0, size / 2 - k * (left + right) / 2], [0.0, k, size / 2 - k * (top + bottom) / 2]]
    )


def portrait_crop(
    picture: Tensor,  # (3, H, W) in [-1, 1]
    box: Box,
    size: int = WORKING_SIDE,
) -> Tensor:  # (3, size, size) in [-1, 1]
    """The picture in the released square; of a video, all frames are cut with the first frame's box."""
    if not box[2] > box[0]:
        raise ValueError(f"face box {tuple(box)} has no width; expected left, top, right, bottom in pixels")
    (k, _, x), (_, _, y) = portrait_transform(box, size).tolist()
    places = torch.arange(size, device=picture.device, dtype=picture.dtype)
    black_at_zero = picture + 1
    columns = _read(black_at_zero, (places - x) / k, dim=2)
    return _read(columns, (places - y) / k, dim=1) - 1


def working_size(size: Sequence[int]) -> tuple[int, int]:
    """height, width at which DECA reads a picture of `size`."""
    longest = max(size)
    return tuple(max(1, round(n * WORKING_SIDE / longest)) for n in size)


def to_levels(picture: Tensor) -> Tensor:
    """Whole levels 0..255, as floats, of values in [-1, 1]."""
    return ((picture.float() + 1) * 127.5).round()


def _square(box: Box, margin: float) -> tuple[float, float, int]:
    """left, top and the whole side of the square around a box."""
    left, top, right, bottom = box
    side = int(margin * (right - left + bottom - top) / 2)
    if side < 1:
        raise ValueError(f"face box {tuple(box)} is empty; expected left, top, right, bottom in pixels")
    return (left + right - side) / 2, (top + bottom - side) / 2, side


def _reach(start: float, side: int, length: int) -> slice:
    """Pixels between which a square's samples lie; at least one, if only to be black."""
    first = min(max(int(np.floor(start)), 0), length - 1)
    return slice(first, max(first + 1, min(int(np.ceil(start + side)) + 1, length)))


def _transform(left: float, top: float, side: int) -> Tensor:
    k = side / LAST
    return torch.tensor([[k, 0.0, 0.0], [0.0, k, 0.0], [left, top, 1.0]])


def _read_square(levels: Tensor, left: float, top: float, side: int) -> Tensor:  # (3, 224, 224)
    steps = torch.arange(CROP, device=levels.device, dtype=levels.dtype) * (side / LAST)
    return _read(_read(levels, top + steps, dim=1), left + steps, dim=2)


def _read(values: Tensor, places: Tensor, dim: int) -> Tensor:
    """Linear samples along a dimension, 0 outside."""
    length = values.shape[dim]
    low = places.floor()
    out = 0.0
    for index, weight in ((low, 1 - (places - low)), (low + 1, places - low)):
        weight = torch.where((index >= 0) & (index < length), weight, 0.0)
        weight = weight.reshape([-1 if d == dim else 1 for d in range(values.ndim)])
        out = out + values.index_select(dim, index.clamp(0, length - 1).long()) * weight
    return out


def _resized(picture: Tensor, size: tuple[int, int], rows: slice, columns: slice) -> Tensor:
    """Levels of a part of the resized picture, between whole ones."""
    if tuple(picture.shape[-2:]) == size:
        return to_levels(picture[:, rows, columns])
    down, across = (
        _resize_weights(old, new)[part].to(picture.device)
        for old, new, part in zip(picture.shape[-2:], size, (rows, columns), strict=True)
    )
    used = [weights.any(0).nonzero() for weights in (down, across)]
    ys, xs = (slice(int(u[0]), int(u[-1]) + 1) for u in used)
    return down[:, ys] @ to_levels(picture[:, ys, xs]) @ across[:, xs].T


@lru_cache(maxsize=4)  # of one clip's height and width
def _resize_weights(old: int, new: int) -> Tensor:  # (new, old)
    """skimage.transform.resize along one axis: a Gaussian against aliasing, then linear samples; both read
    the picture's mirror image beyond its edge."""
    factor = old / new
    sigma = max(0.0, (factor - 1) / 2)
    reach = int(BLUR_REACH * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / max(sigma, 1e-12)) ** 2)
    kernel = kernel / kernel.sum()
    blur = torch.zeros(old, old, dtype=torch.float64)
    place = torch.arange(old)
    for offset, weight in zip(offsets.long().tolist(), kernel.tolist(), strict=True):
        blur[place, _mirrored(place + offset, old)] += weight
    middle = (torch.arange(new, dtype=torch.float64) + 0.5) * factor - 0.5
    low = middle.floor()
    share = (middle - low)[:, None]
    low = low.long()
    return ((1 - share) * blur[_mirrored(low, old)] + share * blur[_mirrored(low + 1, old)]).float()


def _mirrored(index: Tensor, length: int) -> Tensor:
    """Whole places beyond the ends, led back as in a mirror on the last pixel's centre."""
    if length == 1:
        return torch.zeros_like(index)
    period = 2 * (length - 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index)


def _cut_down(levels: Tensor, exact: bool) -> Tensor:
    """Whole levels below. `exact` levels went to 0..1 and back in double precision, which turns every
    eleventh level into the one below."""
    if not exact:
        return levels.floor()
    table = np.arange(256) * (1.0 / 255) * 255
    return torch.from_numpy(np.floor(table)).to(levels)[levels.long()]
