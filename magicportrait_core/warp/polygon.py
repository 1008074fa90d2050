"""Signed distance to a polygon: soft masks of the eye and mouth openings, and where their nearest edge is."""

from __future__ import annotations

import torch
from torch import Tensor


def signed_distance(
    corners: Tensor,  # (K, 2) pixels, closed
    pixels: Tensor,  # (2, H, W)
) -> Tensor:  # (H, W) pixels, negative inside (even-odd rule)
    start = corners
    end = corners.roll(-1, 0)
    inside = torch.zeros_like(pixels[0], dtype=torch.bool)
    nearest = torch.full_like(pixels[0], torch.inf)
    x, y = pixels
    for (ax, ay), (bx, by) in zip(start.tolist(), end.tolist(), strict=True):
        nearest = torch.minimum(nearest, _squared_distance_to_segment(x, y, ax, ay, bx, by))
        if ay != by:
            crosses = ((ay > y) != (by > y)) & (x < ax + (bx - ax) * (y - ay) / (by - ay))
            inside ^= crosses
    return torch.where(inside, -nearest.sqrt(), nearest.sqrt())


def distance_to_line(
    points: Tensor,  # (K, 2) pixels, open
    pixels: Tensor,  # (2, H, W)
) -> Tensor:  # (H, W) pixels
    nearest = torch.full_like(pixels[0], torch.inf)
    for (ax, ay), (bx, by) in zip(points[:-1].tolist(), points[1:].tolist(), strict=True):
        nearest = torch.minimum(nearest, _squared_distance_to_segment(*pixels, ax, ay, bx, by))
    return nearest.sqrt()


def coverage(distance: Tensor, softness: float = 0.5) -> Tensor:
    """Anti-aliased inside of a signed distance: 1 inside, 0 outside, over +-softness pixels."""
    return (0.5 - distance / (2 * softness)).clamp(0, 1)


def _squared_distance_to_segment(x: Tensor, y: Tensor, ax: float, ay: float, bx: float, by: float) -> Tensor:
    dx, dy = bx - ax, by - ay
    t = (((x - ax) * dx + (y - ay) * dy) / max(dx * dx + dy * dy, 1e-12)).clamp(0, 1)
    return (x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2
