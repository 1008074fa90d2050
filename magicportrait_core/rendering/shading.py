"""From fragments to pictures: interpolated normals, albedo from a texture, spherical-harmonics light.

Formulas and constants are those of the released renderer (DECA's SRenderY), because the guidance networks
were trained on its pictures: normals are not normalised again after interpolation, light is not clamped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from .fragments import Fragments

_FIRST = (2 * math.pi / 3) * math.sqrt(3 / (4 * math.pi))
_SECOND = (math.pi / 4) * 3 * math.sqrt(5 / (12 * math.pi))
# One per term of `spherical_harmonics`: the usual constants times the clamped cosine's (Ramamoorthi 2001).
SH_CONSTANTS = (
    1 / math.sqrt(4 * math.pi),
    *(_FIRST,) * 3,
    *(_SECOND,) * 3,
    (math.pi / 4) * (3 / 2) * math.sqrt(5 / (12 * math.pi)),
    (math.pi / 4) * (1 / 2) * math.sqrt(5 / (4 * math.pi)),
)


@dataclass(frozen=True)
class Surface:
    """What a head looks like at its vertices, for a number of frames."""

    faces: Tensor  # (T, 3) int64
    normals: Tensor  # (F, V, 3) camera axes
    nearness: Tensor  # (F, V) 1 at the nearest vertex, 0 at the farthest
    uv_corners: Tensor  # (T, 3, 2) texture coordinates of every face's corners, v up
    albedo: Tensor  # (3, S, S) colour without light, 0..1, first row at v = 1
    light: Tensor  # (9, 3) spherical-harmonics coefficients


@dataclass(frozen=True)
class ShadedPixels:
    """The guidance values at covered pixels, before any clipping."""

    pixel: Tensor  # (P,) index into the flattened (F, H, W) pictures
    depth: Tensor  # (P, 1)
    normal: Tensor  # (P, 3)
    render: Tensor  # (P, 3)


def spherical_harmonics(
    normals: Tensor,  # (..., 3)
) -> Tensor:  # (..., 9)
    """The nine terms of second-order lighting, times their constants."""
    x, y, z = normals.unbind(-1)
    terms = (torch.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1)
    # Terms first in memory: stacking into the last axis would be several times slower.
    return torch.stack([term * c for term, c in zip(terms, SH_CONSTANTS, strict=True)]).movedim(0, -1)


def sample_texture(
    texture: Tensor,  # (C, S, S), first row at v = 1
    uv: Tensor,  # (P, 2) 0..1, v up
) -> Tensor:  # (P, C)
    """Bilinear samples; outside the texture is 0."""
    grid = torch.stack((uv[:, 0] * 2 - 1, 1 - uv[:, 1] * 2), dim=-1)
    return grid_sample(texture[None], grid[None, None], align_corners=False)[0, :, 0].T


def nearness(
    depth: Tensor,  # (F, V) of all vertices
) -> Tensor:  # (F, V)
    """1 for the nearest vertex of a frame, hidden or not, 0 for the farthest; 0 for a flat head."""
    near, far = depth.amin(1, keepdim=True), depth.amax(1, keepdim=True)
    return (far - depth) / (far - near).clamp(min=1e-12)


def shade(fragments: Fragments, surface: Surface) -> ShadedPixels:
    """Depth, normal and lit colour at every covered pixel."""
    frames, height, width = fragments.triangle.shape
    flat = fragments.triangle.reshape(-1)
    pixel = (flat >= 0).nonzero().squeeze(1)
    number = flat.index_select(0, pixel)
    # One row per face and frame with all a pixel needs: a single gather instead of one per attribute.
    at_vertex = torch.cat((surface.normals, surface.nearness[..., None]), dim=-1)
    at_corner = at_vertex.index_select(1, surface.faces.reshape(-1)).view(frames, -1, 3, 4)
    uv = surface.uv_corners.to(at_corner)[None].expand(frames, -1, -1, -1)
    table = torch.cat((at_corner, uv), dim=-1).view(-1, 18)
    if frames > 1:
        number = number + torch.div(pixel, height * width, rounding_mode="floor") * surface.faces.shape[0]
    weights = fragments.barycentric.reshape(-1, 3).index_select(0, pixel)
    values = torch.bmm(weights[:, None], table.index_select(0, number).view(-1, 3, 6)).squeeze(1)
    normal, depth, uv = values[:, :3].contiguous(), values[:, 3:4], values[:, 4:]
    light = spherical_harmonics(normal) @ surface.light
    return ShadedPixels(pixel, depth, normal, sample_texture(surface.albedo, uv) * light)


def level(values: Tensor) -> Tensor:
    """8-bit levels as the released pictures were saved: clipped to 0..1 (negative normals too), rounded."""
    return (values * 255 + 0.5).clamp(0, 255).to(torch.uint8)


def to_map(
    values: Tensor,  # (P, C)
    pixel: Tensor,  # (P,)
    shape: tuple[int, int, int],  # frames, height, width
) -> Tensor:  # (F, C, H, W), 0 where nothing was drawn
    frames, height, width = shape
    out = values.new_zeros(values.shape[1], frames * height * width)
    out.index_copy_(1, pixel, values.T)
    return out.view(-1, frames, height, width).transpose(0, 1)


class Levels(NamedTuple):
    """Guidance maps in 8 bits, without loss of the normals' signs."""

    depth: Tensor  # (F, 1, H, W) uint8
    normal: Tensor  # (F, 3, H, W) uint8, of the absolute values
    render: Tensor  # (F, 3, H, W) uint8
    flags: Tensor  # (F, 1, H, W) uint8: bit 0 the head is here, bits 1, 2, 3 normal x, y, z is negative


def shade_levels(fragments: Fragments, surface: Surface) -> Levels:
    """The 8-bit guidance maps of the fragments."""
    shape = tuple(fragments.triangle.shape)
    shaded = shade(fragments, surface)
    bits = torch.tensor([2, 4, 8], dtype=torch.uint8, device=shaded.pixel.device)
    flags = ((shaded.normal < 0) * bits).sum(1, keepdim=True, dtype=torch.uint8) + 1
    columns = (level(shaded.depth), level(shaded.normal.abs()), level(shaded.render), flags)
    return Levels(*(to_map(column, shaded.pixel, shape) for column in columns))
