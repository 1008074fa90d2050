"""Guidance as people like to see it: full-range depth and normals as colours."""

from __future__ import annotations

import torch
from torch import Tensor

from .guidance import GuidanceMaps

FAR_GREY = 0.12  # of the farthest part of the head; the background is black
EDGE = 0.02  # share of the head's pixels left outside the depth range at either end


def depth_range(maps: GuidanceMaps) -> tuple[float, float]:
    """Depth values (0..1) between which nearly all pixels of the head in a clip lie."""
    levels = maps.depth_levels[(maps.flags & 1) > 0]
    if not levels.numel():
        return 0.0, 1.0
    share = torch.bincount(levels.reshape(-1).long(), minlength=256).cumsum(0) / levels.numel()
    low, high = int((share < EDGE).sum()), int((share < 1 - EDGE).sum())
    return low / 255, max(high, low + 1) / 255


def depth_picture(
    maps: GuidanceMaps,
    limits: tuple[float, float] | None = None,  # depth_range of the whole clip, so that it does not flicker
) -> Tensor:  # (F, 1, H, W) 0..1
    """Depth in full contrast: near is bright, the far end of the head dark grey, the background black."""
    low, high = limits or depth_range(maps)
    bright = ((maps.depth - low) / (high - low)).clamp(0, 1)
    return (FAR_GREY + (1 - FAR_GREY) * bright) * maps.mask


def normal_picture(maps: GuidanceMaps) -> Tensor:  # (F, 3, H, W) 0..1
    """Normals as the usual colours: (n + 1) / 2, facing the viewer is light blue."""
    return (maps.signed_normal + 1) / 2 * maps.mask
