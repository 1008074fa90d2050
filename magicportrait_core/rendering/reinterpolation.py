"""Barycentrics and depth of triangles that are already known to be seen, from their projected corners."""

from __future__ import annotations

import torch
from torch import Tensor

from .fragments import Fragments


def reinterpolate(
    screen: Tensor,  # (F, V, 3) x, y in pixels, depth
    faces: Tensor,  # (T, 3) int64
    triangle: Tensor,  # (F, H, W) int64, -1 where empty
    perspective: bool = True,
) -> Fragments:
    """Fragments of known triangles, differentiable with respect to `screen`.

    A triangle need not cover its pixel: coordinates are those of its plane, not clamped.
    """
    frames, height, width = triangle.shape
    flat = triangle.reshape(-1)
    pixel = (flat >= 0).nonzero().squeeze(1)
    row = torch.div(pixel, width, rounding_mode="floor")
    column = pixel - row * width
    number = flat.index_select(0, pixel)
    if frames > 1:
        frame = torch.div(row, height, rounding_mode="floor")
        row = row - frame * height
        number = number + frame * faces.shape[0]
    weights, depth = _on_plane(_corners(screen, faces), number, column, row, perspective)
    barycentric = weights.new_zeros(flat.shape[0], 3).index_copy(0, pixel, weights)
    depths = depth.new_zeros(flat.shape[0]).index_copy(0, pixel, depth)
    return Fragments(triangle, barycentric.view(frames, height, width, 3), depths.view(frames, height, width))


def _corners(screen: Tensor, faces: Tensor) -> Tensor:
    """(F*T, 3 corners, 3)"""
    return screen.index_select(1, faces.reshape(-1)).reshape(-1, 3, 3)


def _on_plane(
    corners: Tensor,  # (N, 3, 3)
    number: Tensor,  # (P,) index into corners
    column: Tensor,  # (P,) pixel
    row: Tensor,  # (P,)
    perspective: bool,
) -> tuple[Tensor, Tensor]:  # (P, 3) barycentric, (P,) depth
    x, y, z = corners.unbind(-1)
    ax, ay, bx, by = x[:, 1] - x[:, 0], y[:, 1] - y[:, 0], x[:, 2] - x[:, 0], y[:, 2] - y[:, 0]
    area = ax * by - bx * ay
    area = torch.where(area == 0, torch.ones_like(area), area)  # never seen; keeps gradients finite
    gx1, gy1, gx2, gy2 = by / area, -bx / area, -ay / area, ax / area
    # Each share (barycentric, over depth if perspective) is linear on the screen: constant, x slope, y slope.
    share = 1 / torch.where(z == 0, torch.ones_like(z), z) if perspective else torch.ones_like(z)
    s0, s1, s2 = share.unbind(1)
    planes = [
        x[:, 0],
        y[:, 0],
        s0,
        -(gx1 + gx2) * s0,
        -(gy1 + gy2) * s0,
        gx1 * s1,
        gy1 * s1,
        gx2 * s2,
        gy2 * s2,
    ]
    if not perspective:
        planes += z.unbind(1)
    x0, y0, s0, s0x, s0y, s1x, s1y, s2x, s2y, *depths = (
        torch.stack(planes, dim=1).index_select(0, number).unbind(1)
    )
    dx, dy = column + (0.5 - x0), row + (0.5 - y0)
    shares = (s0 + dx * s0x + dy * s0y, dx * s1x + dy * s1y, dx * s2x + dy * s2y)
    scale = 1 / (shares[0] + shares[1] + shares[2])
    weights = torch.stack(shares, dim=1) * scale[:, None]
    depth = scale if perspective else (weights * torch.stack(depths, dim=1)).sum(1)
    return weights, depth
