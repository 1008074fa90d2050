"""Colour guided filter (He, Sun and Tang 2010): a mask that runs along the edges of a picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def guided_filter(
    guide: Tensor,  # (3, H, W)
    values: Tensor,  # (1, H, W)
    radius: int,  # pixels, of the square windows
    smoothness: float,  # squared units of the guide; edges weaker than its root are smoothed over
    large: Tensor | None = None,  # (3, H', W') the guide at an integer multiple of its size, or a bit less
) -> Tensor:  # (1, H, W), or (1, H', W')
    """The linear function of the guide, in each window, that is nearest to the values; for a larger guide
    its coefficients are enlarged (the fast guided filter, He and Sun 2015)."""
    mean, mean_values = box_mean(guide, radius), box_mean(values, radius)
    shared = box_mean(guide * values, radius) - mean * mean_values
    inverse = _inverse(_covariance(guide, mean, radius), smoothness)
    slope = torch.stack([(row * shared).sum(0) for row in inverse])
    offset = mean_values - (slope * mean).sum(0, keepdim=True)
    slope, offset = box_mean(slope, radius), box_mean(offset, radius)
    if large is not None:
        slope, offset, guide = enlarged(slope, large), enlarged(offset, large), large
    return (slope * guide).sum(0, keepdim=True) + offset


def enlarged(values: Tensor, like: Tensor) -> Tensor:  # (C, H', W')
    """Bilinear magnification by a whole number, cut to the size of `like`."""
    height, width = like.shape[-2:]
    factor = -(-height // values.shape[-2])
    if factor == 1:
        return values
    return F.interpolate(values[None], scale_factor=factor, mode="bilinear")[0, :, :height, :width]


def box_mean(values: Tensor, radius: int) -> Tensor:  # (C, H, W)
    """Mean over a square of 2 radius + 1 pixels; edge pixels repeat."""
    side = 2 * radius + 1
    padded = F.pad(values[None], (radius, radius, radius, radius), mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, (side, 1), 1), (1, side), 1)[0]


def _covariance(guide: Tensor, mean: Tensor, radius: int) -> Tensor:  # (6, H, W): rr rg rb gg gb bb
    first, second = (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)
    return box_mean(guide[first, :] * guide[second, :], radius) - mean[first, :] * mean[second, :]


def _inverse(covariance: Tensor, smoothness: float) -> tuple[Tensor, Tensor, Tensor]:  # rows (3, H, W)
    """Of a symmetric 3x3 matrix with `smoothness` added to its diagonal, by cofactors."""
    rr, rg, rb, gg, gb, bb = covariance
    rr, gg, bb = rr + smoothness, gg + smoothness, bb + smoothness
    a, b, c = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    scale = 1 / (rr * a + rg * b + rb * c)
    d, e, f = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    return (
        torch.stack((a, b, c)) * scale,
        torch.stack((b, d, e)) * scale,
        torch.stack((c, e, f)) * scale,
    )
