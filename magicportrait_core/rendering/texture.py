"""Pictures in the texture space of a head: which surface point a texel shows, painting and sampling there."""

from __future__ import annotations

import torch
from torch import Tensor

from .fragments import Fragments
from .rasterizer import rasterize


def texel_fragments(
    uvs: Tensor,  # (U, 2) 0..1, v up
    faces_uv: Tensor,  # (T, 3) int64
    size: int,
) -> Fragments:
    """The face under every texel centre of a square texture of `size`, first row at v = 1; one frame."""
    flat = torch.stack((uvs[:, 0] * size, (1 - uvs[:, 1]) * size, torch.ones_like(uvs[:, 0])), dim=-1)
    return rasterize(flat[None], faces_uv, (size, size), perspective=False)


def spread(
    texture: Tensor,  # (C, S, S)
    known: Tensor,  # (S, S) bool
) -> Tensor:  # (C, S, S)
    """Fills unknown texels with a smooth continuation of the known ones (pull-push over a pyramid).

    Known texels are kept; with nothing known the result is 0.
    """
    return _pull_push(texture * known, known.to(texture.dtype)[None])


def _pull_push(weighted: Tensor, weight: Tensor) -> Tensor:
    """`weighted` is colour times weight, `weight` (1, H, W) 0..1; returns the colour everywhere."""
    if weight.shape[-1] == 1:
        return weighted / weight.clamp(min=1e-6)
    pool = torch.nn.functional.avg_pool2d
    coarse_weight = pool(weight[None], 2, ceil_mode=True)[0]
    coarse = pool(weighted[None], 2, ceil_mode=True)[0]
    scale = coarse_weight.clamp(max=0.25) / coarse_weight.clamp(min=1e-6) * 4  # one known texel is enough
    below = _pull_push(coarse * scale, (coarse_weight * 4).clamp(max=1))
    below = torch.nn.functional.interpolate(
        below[None], size=weight.shape[-2:], mode="bilinear", align_corners=False
    )[0]
    return weighted + (1 - weight) * below


def paint_faces(
    uvs: Tensor,  # (U, 2)
    faces_uv: Tensor,  # (T, 3)
    colours: Tensor,  # (T, C) a colour per face
    size: int,
) -> Tensor:  # (C, S, S)
    """A texture with every face in its colour, continued beyond the islands so that no seam shows."""
    triangle = texel_fragments(uvs, faces_uv, size).triangle[0]
    known = triangle >= 0
    texture = colours[triangle.clamp(min=0)].permute(2, 0, 1)
    return spread(texture, known)


def mirrored_corners(
    uvs: Tensor,  # (U, 2)
    faces: Tensor,  # (T, 3)
    faces_uv: Tensor,  # (T, 3)
    mirror: Tensor,  # (V,) the vertex at each vertex's mirror image
) -> tuple[Tensor, Tensor]:  # (T, 3, 2), (T,) bool
    """Texture coordinates of the mirror image of every face's corners, and whether they lie together.

    They do not where a vertex on a seam has several coordinates and another island's was picked. It is the
    first one: an assignment that names a vertex twice would keep either, depending on threads.
    """
    first = torch.full_like(mirror, uvs.shape[0] - 1)
    first = first.scatter_reduce(0, faces.reshape(-1), faces_uv.reshape(-1), "amin")
    corners = uvs[first[mirror[faces]]]

    def extent(triangles: Tensor) -> Tensor:
        return (triangles.amax(1) - triangles.amin(1)).amax(1)

    return corners, extent(corners) < 3 * extent(uvs[faces_uv]) + 1e-4
