"""Smooth extension of partly known pictures (B, C, H, W), and the small filters the warp is made of."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

EMPTY = 1e-4  # confidence below which a cell knows nothing


def pull_push(
    values: Tensor,  # (B, C, H, W)
    confidence: Tensor,  # (B, 1, H, W) 0..1
    smoothing: int = 0,  # Jacobi steps towards the harmonic extension on each level but the finest
    levels: int = 12,
) -> Tensor:  # (B, C, H, W)
    """A smooth picture that equals `values` where confidence is 1 (Gortler et al. 1996, pull-push).

    Averages of what is known are pulled down a pyramid and pushed back into what is not.
    """
    known = values * confidence  # premultiplied
    pyramid = []
    while min(known.shape[-2:]) > 2 and len(pyramid) < levels:
        pyramid.append((known, confidence))
        known, confidence = _halve(known), _halve(confidence)
        gain = (1 / confidence.clamp(min=EMPTY)).clamp(max=4.0)  # a quarter known is fully known one level up
        known, confidence = known * gain, (confidence * gain).clamp(max=1)
    mean = known.sum((-2, -1), keepdim=True) / confidence.sum((-2, -1), keepdim=True).clamp(min=EMPTY)
    result = known + (1 - confidence) * mean
    for level in range(len(pyramid) - 1, -1, -1):
        known, confidence = pyramid[level]
        unknown = 1 - confidence
        result = torch.addcmul(known, unknown, _double(result, known.shape[-2:]))
        for _ in range(smoothing if level else 0):
            around = F.avg_pool2d(F.pad(result, (1, 1, 1, 1), mode="replicate"), 3, 1)
            result = torch.addcmul(known, unknown, around)
    return result


def harmonic(
    values: Tensor,  # (B, C, H, W)
    confidence: Tensor,  # (B, 1, H, W)
    reduction: int = 2,
    smoothing: int = 6,
) -> Tensor:  # (B, C, H, W)
    """Smooth extension solved at 1/reduction of the size: coarse to fine Jacobi sweeps from pull-push."""
    size = values.shape[-2:]
    if reduction == 1:
        return pull_push(values, confidence, smoothing)
    weight = F.avg_pool2d(confidence, reduction, ceil_mode=True)
    mean = F.avg_pool2d(values * confidence, reduction, ceil_mode=True) / weight.clamp(min=EMPTY)
    solved = pull_push(mean, (4 * weight).clamp(max=1), smoothing)
    return resize(solved, reduction, size)


def resize(coarse: Tensor, factor: int, size: tuple[int, int]) -> Tensor:
    """Bilinear magnification by an integer, cut to `size`: cell (i, j) covers factor x factor pixels."""
    if factor == 1:
        return coarse[..., : size[0], : size[1]]
    fine = F.interpolate(coarse, scale_factor=factor, mode="bilinear", align_corners=False)
    return fine[..., : size[0], : size[1]]


def blur(values: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with edge pixels repeated; sigma in pixels."""
    radius = max(1, math.ceil(2.5 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=values.dtype, device=values.device)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    batch, channels, height, width = values.shape
    flat = values.reshape(batch * channels, 1, height, width)
    flat = F.conv2d(F.pad(flat, (radius, radius, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    flat = F.conv2d(F.pad(flat, (0, 0, radius, radius), mode="replicate"), kernel.view(1, 1, -1, 1))
    return flat.view(batch, channels, height, width)


def dilated(mask: Tensor, radius: int) -> Tensor:  # (1, H, W)
    """The largest value in a square of 2 radius + 1 pixels around each."""
    side = 2 * radius + 1
    tall = F.max_pool2d(mask[None], (side, 1), 1, (radius, 0))
    return F.max_pool2d(tall, (1, side), 1, (0, radius))[0]


def smoothstep(low: float, high: float, x: Tensor) -> Tensor:
    """0 below `low`, 1 above `high`, a cubic with flat ends between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def ramp(low: float, high: float, x: float) -> float:
    """`smoothstep` of a number."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def sample(
    picture: Tensor,  # (C, H, W)
    pixels: Tensor,  # (2, h, w) x, y in pixels of the picture, centres at +0.5
    mode: str = "bilinear",
) -> Tensor:  # (C, h, w)
    """The picture at real-valued places; beyond its edge the edge pixels repeat."""
    height, width = picture.shape[-2:]
    scale = pixels.new_tensor([2 / width, 2 / height])
    grid = pixels.permute(1, 2, 0) * scale - 1
    return F.grid_sample(picture[None], grid[None], mode=mode, padding_mode="border", align_corners=False)[0]


def pixel_centres(size: tuple[int, int], like: Tensor) -> Tensor:  # (2, H, W) x, y
    y, x = torch.meshgrid(
        torch.arange(size[0], dtype=torch.float32, device=like.device) + 0.5,
        torch.arange(size[1], dtype=torch.float32, device=like.device) + 0.5,
        indexing="ij",
    )
    return torch.stack((x, y))


def _halve(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, 2, ceil_mode=True)


def _double(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, scale_factor=2, mode="bilinear", align_corners=False)[
        ..., : size[0], : size[1]
    ]
