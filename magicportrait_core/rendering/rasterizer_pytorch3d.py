"""pytorch3d as a rasteriser backend, for those who have it. Chosen by name, never required."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .fragments import Fragments
from .rasterizer_selftest import failure
from .rasterizer_span import LIMIT, NEAR


def rasterize_pytorch3d(
    screen: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool = True, cull: bool = False
) -> Fragments:
    """As `rasterize`. RuntimeError when pytorch3d is missing or draws the self-test differently."""
    problem = _problem(screen.device.type)
    if problem:
        raise RuntimeError(f"backend='pytorch3d' cannot be used: {problem}; use backend='auto'")
    return _run(screen, faces, size, perspective, cull)


@lru_cache(maxsize=4)
def _problem(device: str) -> str | None:
    try:
        import pytorch3d.renderer.mesh  # noqa: F401
        import pytorch3d.structures  # noqa: F401
    except Exception as error:  # a build for another torch fails with OSError or a missing symbol
        return f"it is not installed or does not load ({error})"

    def on_device(screen: Tensor, faces: Tensor, *options) -> Fragments:
        found = _run(screen.to(device), faces.to(device), *options)
        return Fragments(found.triangle.cpu(), found.barycentric.cpu(), found.depth.cpu())

    try:
        wrong = failure(on_device)
    except Exception as error:
        return f"its self-test stops with {type(error).__name__}: {error}"
    return None if wrong is None else f"its self-test fails: {wrong}"


def _run(screen: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool, cull: bool) -> Fragments:
    from pytorch3d.renderer.mesh import rasterize_meshes
    from pytorch3d.structures import Meshes

    height, width = size
    # Its NDC: x left, y up, the shorter side of the picture spans 2.
    scale = 2 / min(size)
    x, y = (width / 2 - screen[..., 0]) * scale, (height / 2 - screen[..., 1]) * scale
    depth = screen[..., 2]
    bad = ~(screen.abs().amax(-1) <= LIMIT)
    shift = torch.zeros_like(depth[:, :1])
    if perspective:  # it cuts such triangles or draws them inside out
        bad |= depth <= NEAR
    else:  # it drops what is behind z = 0, so depth is made positive; only differences matter
        shift = 1 - torch.where(bad, 0, depth).amin(1, keepdim=True)
    drawn = [~hidden for hidden in bad[:, faces].any(-1)]
    vertices = torch.nan_to_num(torch.stack((x, y, depth + shift), dim=-1))
    meshes = Meshes(list(vertices), [faces[kept] for kept in drawn])
    packed, zbuf, barycentric, _ = rasterize_meshes(
        meshes,
        image_size=(height, width),
        blur_radius=0.0,
        faces_per_pixel=1,
        bin_size=0 if screen.device.type == "cpu" else None,
        perspective_correct=perspective,
        clip_barycentric_coords=False,
        cull_backfaces=cull,
    )
    seen = packed[..., 0] >= 0
    first = meshes.mesh_to_faces_packed_first_idx()[:, None, None]
    triangle = torch.where(seen, packed[..., 0] - first, -1)
    for frame, kept in enumerate(drawn):  # numbers among the drawn faces -> numbers among all
        triangle[frame][seen[frame]] = kept.nonzero().squeeze(1)[triangle[frame][seen[frame]]]
    return Fragments(
        triangle,
        torch.where(seen[..., None], barycentric[..., 0, :], 0),
        torch.where(seen, zbuf[..., 0] - shift[..., None], 0),
    )
