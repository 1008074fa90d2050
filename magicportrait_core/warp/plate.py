"""The still background of a portrait: the photo, filled where the person stands in front of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..matting.guided_filter import box_mean
from .fill import blur, dilated, pixel_centres, pull_push, resize, sample, smoothstep

REACH = (0.15, 0.50)  # face widths inside the outline over which continued lines give way to a smooth fill
RING = 0.04  # face widths outside the hole in which the filling is compared with the photo
BESIDE = (0.01, 0.04, 0.07)  # face widths outside that where colours are read: past wisps of hair
FADE = 0.04  # face widths inside the hole over which the photo gives way
MEETING = 0.25  # face widths into the hole over which the difference goes
EVEN = 0.08  # face widths along the outline over which its place is averaged
FAR = 1e4  # cells
NOWHERE = -2.0  # picture widths, the place of an outline that is not there
SMOOTHING = 4  # sweeps of the smooth fill


def still_background(
    image: Tensor,  # (3, H, W) in [-1, 1]
    hole: Tensor,  # (1, H, W) 0 or 1, what is to be filled
    cell: int,  # photo pixels per cell in which the geometry is worked out
    face_width: float,  # cells
) -> Tensor:  # (3, H, W), the photo itself, bit for bit, outside the hole
    """The colours beside the hole, carried straight into it from the left, the right and above: horizons,
    shelves and edges of walls go on, and nothing is seen twice. Deeper in, a smooth fill."""
    if not bool(hole.any()):
        return image.clone()
    size = tuple(image.shape[-2:])
    ring = max(1, round(RING * face_width * cell))
    wide = dilated(hole, ring)
    small = F.avg_pool2d(image[None], cell, ceil_mode=True)
    inside = F.max_pool2d(wide[None], cell, ceil_mode=True)
    smooth = resize(pull_push(small, 1 - inside, SMOOTHING), cell, size)[0]
    carried, nearest = _carried(image, wide, inside[0, 0] > 0, cell, face_width)
    share = 1 - smoothstep(REACH[0] * face_width, REACH[1] * face_width, nearest)
    share = blur(F.avg_pool2d(share[None], cell, ceil_mode=True), max(EVEN * face_width, 0.5))
    share = resize(share, cell, size)[0] * (nearest < FAR)
    filled = torch.lerp(smooth, carried, share)
    # The photo just outside and the filling just inside meet: their difference is spread into the hole.
    rim = F.avg_pool2d((wide - hole)[None], cell, ceil_mode=True)
    step = F.avg_pool2d(((image - filled) * (wide - hole))[None], cell, ceil_mode=True)
    step = pull_push(step / rim.clamp(min=1e-3), rim, SMOOTHING)
    step = resize(step, cell, size)[0] * (1 - smoothstep(0, MEETING * face_width, nearest))
    inner = (2 * box_mean(hole, max(1, round(FADE * face_width * cell))) - 1).clamp(0, 1)
    return torch.where(hole > 0, torch.lerp(image, (filled + step).clamp(-1, 1), inner), image)


def _carried(
    image: Tensor,  # (3, H, W)
    hole: Tensor,  # (1, H, W)
    inside: Tensor,  # (h, w) bool, the same in cells
    cell: int,
    face_width: float,  # cells
) -> tuple[Tensor, Tensor]:  # (3, H, W), (1, H, W) cells to the nearest colour that was carried, at most FAR
    size = tuple(image.shape[-2:])
    centres, unclear = pixel_centres(size, image), dilated(hole, 1)
    colour, total, nearest = torch.zeros_like(image), torch.zeros_like(hole), torch.full_like(hole, FAR)
    for turns in range(3):
        depth, axis = _depth(inside, turns, face_width)
        depth = resize(depth[None, None], cell, size)[0]
        inwards = centres.new_tensor(axis)[:, None, None]
        for gap in BESIDE:
            seen = centres - cell * (depth + gap * face_width + 1) * inwards
            within = (seen > 0).all(0) & (seen[0] < size[1])
            weight = ((sample(unclear, seen) < 0.01) & within) / (depth.square() + 1)
            colour = torch.addcmul(colour, weight, sample(image, seen))
            total = total + weight
            nearest = torch.where(weight > 0, torch.minimum(nearest, depth), nearest)
    return colour / total.clamp(min=1e-9), nearest


def _depth(
    inside: Tensor,  # (h, w) bool
    turns: int,  # 0 from the left, 1 from above, 2 from the right
    face_width: float,
) -> tuple[Tensor, tuple[float, float]]:  # (h, w) cells to the outline on that side; x, y into the hole
    flipped = (inside, inside.T, inside.flip(1))[turns]
    columns = torch.arange(flipped.shape[1], device=inside.device).expand_as(flipped)
    outline = torch.where(flipped, -1, columns).cummax(1).values.float()
    outline = torch.where(outline < 0, NOWHERE * flipped.shape[1], outline)
    known = flipped[None, None].float()
    sigma = max(EVEN * face_width, 0.5)
    even = _along(outline[None, None] * known, sigma) / _along(known, sigma).clamp(min=1e-3)
    even = torch.where(outline < 0, outline, even[0, 0])
    depth = (columns - even - 0.5).clamp(min=0) * flipped
    return (depth, depth.T, depth.flip(1))[turns], ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0))[turns]


def _along(values: Tensor, sigma: float) -> Tensor:
    """Gaussian mean over the rows of (1, 1, h, w), columns apart."""
    return blur(values.permute(3, 1, 2, 0), sigma).permute(3, 1, 2, 0)
