"""Backward 3D flow through the surface: where each point seen in the target picture was in the portrait.

A pixel of the target mesh knows its triangle and its barycentric coordinates there. The same coordinates
on the same triangle of the portrait's mesh are the same piece of skin (a surface field, FG-Portrait equations
4 and 5). Off the surface the point is written in the target triangle's own frame (two edges and the unit
normal) and read in the portrait's: plane barycentrics without clamping plus a normal offset. Clamping to the
triangle, the obvious closest-point code, loses the tangential rest at silhouettes: even the identity is
millimetres wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .fragments import Fragments


@dataclass(frozen=True)
class SurfaceFlow:
    """Dense backward flow of target pixels, metres of camera space; 0 where the mesh is not seen."""

    target: Tensor  # (F, H, W, 3) the surface point seen there, target camera space
    source: Tensor  # (F, H, W, 3) the same point of the surface in the portrait, its camera space
    covered: Tensor  # (F, H, W) bool

    @property
    def flow(self) -> Tensor:  # (F, H, W, 3)
        """From the point seen to the same skin in the portrait."""
        return self.source - self.target


def surface_flow(
    fragments: Fragments,  # of the target mesh
    faces: Tensor,  # (T, 3) int64
    target_vertices: Tensor,  # (F, V, 3) camera space
    source_vertices: Tensor,  # (1 or F, V, 3) camera space
) -> SurfaceFlow:
    """Flow at the surface, in closed form from the fragments: barycentric interpolation of both meshes."""
    if target_vertices.shape[-2:] != source_vertices.shape[-2:]:
        raise ValueError(
            f"target mesh has {target_vertices.shape[-2]} vertices, source mesh {source_vertices.shape[-2]}; "
            "flow needs the same head model for both"
        )
    both = torch.cat((target_vertices, source_vertices.expand_as(target_vertices)), dim=-1)
    points = fragments.interpolate(both, faces)
    return SurfaceFlow(points[..., :3], points[..., 3:], fragments.covered)


def flow_along_rays(
    fragments: Fragments,
    faces: Tensor,  # (T, 3) int64
    target_vertices: Tensor,  # (F, V, 3) camera space
    source_vertices: Tensor,  # (1 or F, V, 3) camera space
    offsets: Tensor,  # (N,) metres of depth behind (+) or before (-) the surface
    perspective: bool = True,
) -> Tensor:  # (F, N, H, W, 3)
    """Flow at points on the viewing ray in front of and behind the surface, each locked to the triangle seen.

    A point x on the ray has x = a + E (u, v, h) in the target triangle's frame E = (edge, edge, unit normal),
    so its flow is linear in the offset: flow(d) = flow(0) + d (E_source E_target^-1 - 1) ray.
    """
    surface = surface_flow(fragments, faces, target_vertices, source_vertices)
    frame, row, column = surface.covered.nonzero(as_tuple=True)
    triangle = faces[fragments.triangle[frame, row, column]]
    target_frame = _triangle_frames(target_vertices, frame, triangle)
    source_frame = _triangle_frames(source_vertices, frame, triangle)
    point = surface.target[frame, row, column]
    ray = point / -point[:, 2:] if perspective else point.new_tensor([0.0, 0.0, -1.0]).expand_as(point)
    local = torch.linalg.solve(target_frame, ray[..., None])
    slope = (source_frame @ local)[..., 0] - ray
    gradient = torch.zeros_like(surface.flow)
    gradient[frame, row, column] = slope
    return surface.flow[:, None] + offsets.to(gradient)[None, :, None, None, None] * gradient[:, None]


def facing(
    vertices: Tensor,  # (F, V, 3) camera space
    normals: Tensor,  # (F, V, 3) unit, camera space
    perspective: bool = True,
) -> Tensor:  # (F, V) cosine between the normal and the direction to the viewer; negative = turned away
    """How squarely each vertex looks at the camera."""
    view = -F.normalize(vertices, dim=-1) if perspective else vertices.new_tensor([0.0, 0.0, 1.0])
    return (normals * view).sum(-1)


def visible_in_source(
    pixels: Tensor,  # (..., 3) source pixel x, y and depth of the points
    source_depth: Tensor,  # (H, W) depth of the portrait's mesh, 0 where empty
    tolerance: float = 0.004,  # metres behind the surface that still count as seen
) -> Tensor:  # (...,) 0..1, falling to 0 over two more tolerances
    """Whether the portrait shows the points: nothing nearer covers their pixel (z test, soft edge).

    Points that land where the portrait has no mesh count as seen: nothing can cover them.
    """
    height, width = source_depth.shape
    behind = torch.where(source_depth > 0, source_depth, torch.full_like(source_depth, 1e3))
    scale = pixels.new_tensor([2 / width, 2 / height])
    grid = (pixels[..., :2] * scale - 1).reshape(1, 1, -1, 2)
    nearest = F.grid_sample(behind[None, None], grid, padding_mode="border", align_corners=False)
    excess = pixels[..., 2] - nearest.reshape(pixels.shape[:-1])
    return ((3 * tolerance - excess) / (2 * tolerance)).clamp(0, 1)


def facing_confidence(
    source_facing: Tensor,  # (...) as `facing`, in the portrait
    target_facing: Tensor,  # (...) in the target
    none: float = 0.15,
    full: float = 0.45,
) -> Tensor:  # (...) 0..1
    """How well a patch of the target is resolved in the portrait: its facing there relative to here.

    The ratio, not the facing itself: a silhouette that did not turn is as good as any other skin.
    """
    ratio = source_facing.clamp(min=0) / target_facing.clamp(min=0.05)
    ratio = ((ratio - none) / (full - none)).clamp(0, 1)
    return ratio * ratio * (3 - 2 * ratio)


def _triangle_frames(
    vertices: Tensor,  # (1 or F, V, 3)
    frame: Tensor,  # (P,)
    triangle: Tensor,  # (P, 3)
) -> Tensor:  # (P, 3, 3), columns: two edges and the unit normal
    index = frame if vertices.shape[0] > 1 else torch.zeros_like(frame)
    a, b, c = vertices[index[:, None], triangle].unbind(1)
    normal = F.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
    return torch.stack((b - a, c - a, normal), dim=-1)
