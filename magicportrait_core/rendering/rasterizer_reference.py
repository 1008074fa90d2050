"""The slow, obvious twin of the rasteriser: one triangle after the other, float64, on the CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .fragments import Fragments
from .rasterizer_span import LIMIT, NEAR, min_area_pixels


def rasterize_reference(
    screen: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool = True, cull: bool = False
) -> Fragments:
    """As `rasterize`, by testing every triangle at every pixel of its bounding box."""
    corners = screen.detach().cpu().double().numpy()
    triangles = faces.cpu().numpy()
    frames = [_frame(vertices[triangles], size, perspective, cull) for vertices in corners]
    triangle, barycentric, depth = (np.stack(column) for column in zip(*frames, strict=True))
    to = screen.device
    return Fragments(
        torch.from_numpy(triangle).to(to),
        torch.from_numpy(barycentric).float().to(to),
        torch.from_numpy(depth).float().to(to),
    )


def _frame(corners: np.ndarray, size: tuple[int, int], perspective: bool, cull: bool):
    height, width = size
    triangle = np.full(size, -1, np.int64)
    barycentric = np.zeros((*size, 3))
    nearest = np.full(size, np.inf)
    for number, corner in enumerate(corners):
        if not np.isfinite(corner).all() or (perspective and corner[:, 2].min() <= NEAR):
            continue
        if np.abs(corner[:, :2]).max() > LIMIT:
            continue
        (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = corner
        area = _edge(x2, y2, x0, y0, x1, y1)
        if (area if cull else abs(area)) <= min_area_pixels(size):
            continue
        left, right = (int(np.clip(np.floor(v), 0, width)) for v in (min(x0, x1, x2), max(x0, x1, x2) + 1))
        top, bottom = (int(np.clip(np.floor(v), 0, height)) for v in (min(y0, y1, y2), max(y0, y1, y2) + 1))
        window = slice(top, bottom), slice(left, right)
        px, py = np.arange(left, right) + 0.5, np.arange(top, bottom)[:, None] + 0.5
        w0 = _edge(px, py, x1, y1, x2, y2) / area
        w1 = _edge(px, py, x2, y2, x0, y0) / area
        w2 = _edge(px, py, x0, y0, x1, y1) / area
        weights = np.stack((w0, w1, w2), axis=-1)
        inside = (weights > 0).all(-1)
        if perspective:
            weights = weights / (z0, z1, z2)
            with np.errstate(divide="ignore", invalid="ignore"):  # outside the triangle
                weights = weights / weights.sum(-1, keepdims=True)
        depth = weights @ (z0, z1, z2)
        wins = inside & (depth < nearest[window])
        triangle[window][wins] = number
        barycentric[window][wins] = weights[wins]
        nearest[window][wins] = depth[wins]
    return triangle, barycentric, np.where(triangle >= 0, nearest, 0)


def _edge(px, py, ax, ay, bx, by):
    """Doubled signed area of (p, a, b)."""
    return (px - ax) * (by - ay) - (py - ay) * (bx - ax)
