"""Batched z-buffer rasteriser: projected triangles in, the fragment seen at each pixel out.

The rules are those of the released system (pytorch3d, one face per pixel, no blur): samples at pixel centres
(+0.5), strictly inside all three edges, smaller depth wins, of equal depths the lower face index, triangles
of next to no area are skipped, back faces are drawn unless culled.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from . import rasterizer_numba, rasterizer_pytorch3d
from .fragments import Fragments
from .rasterizer_reference import rasterize_reference
from .rasterizer_span import visible_triangles
from .reinterpolation import reinterpolate

Backend = Literal["auto", "torch", "numba", "pytorch3d", "reference"]
FRAMES_AT_ONCE = {"cuda": 8, "mps": 4}  # on a CPU one frame at a time stays in the cache


def rasterize(
    screen: Tensor,  # (F, V, 3) x, y in pixels, depth (of any sign when not perspective)
    faces: Tensor,  # (T, 3) int64
    size: tuple[int, int],  # height, width, pixels
    perspective: bool = True,
    cull: bool = False,
    backend: Backend = "auto",
) -> Fragments:
    """The triangle seen at every pixel, its barycentric coordinates there, and the depth.

    `perspective`: barycentrics and depth are corrected for perspective, and triangles with a vertex at or
    behind the camera are dropped; otherwise both are linear on the picture. `cull` drops triangles whose
    corners run clockwise in the picture. `auto` takes numba for CPU tensors when it is installed and passes a
    self-test, else torch. Where depths agree to float32 rounding, backends may choose different triangles.
    No gradients: `reinterpolate` gives differentiable barycentrics and depth of the triangles found.

    Raises ValueError for wrong shapes, indices or backend names, RuntimeError for a backend that cannot run.
    """
    _check(screen, faces, size)
    screen, faces = screen.detach().float(), faces.to(screen.device)
    if backend == "auto":
        usable = screen.device.type == "cpu" and rasterizer_numba.works()
        backend = "numba" if usable else "torch"
    run = {
        "torch": _rasterize_torch,
        "numba": rasterizer_numba.rasterize_numba,
        "pytorch3d": rasterizer_pytorch3d.rasterize_pytorch3d,
        "reference": rasterize_reference,
    }
    if backend not in run:
        raise ValueError(f"backend={backend!r}; expected one of auto, {', '.join(run)}")
    return run[backend](screen, faces, size, perspective, cull)


def _rasterize_torch(
    screen: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool, cull: bool
) -> Fragments:
    parts = []
    for frames in screen.split(FRAMES_AT_ONCE.get(screen.device.type, 1)):
        triangle = visible_triangles(frames, faces, size, perspective, cull)
        parts.append(reinterpolate(frames, faces, triangle, perspective))
    if len(parts) == 1:
        return parts[0]
    return Fragments(
        torch.cat([part.triangle for part in parts]),
        torch.cat([part.barycentric for part in parts]),
        torch.cat([part.depth for part in parts]),
    )


def _check(screen: Tensor, faces: Tensor, size: tuple[int, int]) -> None:
    if screen.ndim != 3 or screen.shape[-1] != 3 or not screen.shape[0]:
        raise ValueError(
            f"screen has shape {tuple(screen.shape)}; expected (F, V, 3): x, y in pixels and depth"
        )
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.is_floating_point():
        raise ValueError(
            f"faces have shape {tuple(faces.shape)} and type {faces.dtype}; expected (T, 3) integers"
        )
    if min(size) < 1:
        raise ValueError(f"size={tuple(size)}; expected a height and a width of at least one pixel")
    if faces.numel() and not 0 <= int(faces.min()) <= int(faces.max()) < screen.shape[1]:
        raise ValueError(
            f"faces name vertices {int(faces.min())}..{int(faces.max())} but there are {screen.shape[1]}; "
            "take the faces of the same head as the vertices"
        )
