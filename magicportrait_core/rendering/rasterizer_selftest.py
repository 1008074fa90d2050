"""A tiny fixed scene that an optional rasteriser backend has to draw like the slow twin before it is used."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .fragments import Fragments
from .rasterizer_reference import rasterize_reference

SIZE = (8, 16)  # powers of two: pixel centres and edges through them stay exact in normalised coordinates


def failure(rasterize: Callable[..., Fragments]) -> str | None:
    """What the backend `rasterize(screen, faces, size, perspective, cull)` gets wrong, or None."""
    screen, faces = scene()
    for perspective in (True, False):
        for cull in (True, False):
            expected = rasterize_reference(screen, faces, SIZE, perspective, cull)
            found = rasterize(screen, faces, SIZE, perspective, cull)
            wrong = int((found.triangle != expected.triangle).sum())
            if wrong:
                return f"{wrong} of {expected.triangle.numel()} triangle numbers differ"
            for name in ("barycentric", "depth"):
                error = (getattr(found, name) - getattr(expected, name)).abs().max().item()
                if not error < 1e-4:
                    return f"{name} is off by {error:.2g}"
    return None


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Two frames: overlapping, back-facing, doubled, degenerate, off-screen, edge-on-centre triangles."""
    first = torch.tensor(
        [
            [0.5, 0.5, 2.0],
            [10.5, 0.5, 1.0],
            [0.5, 8.5, 3.0],
            [11.3, 8.1, 1.5],
            [4.2, -3.1, 1.1],
            [5.7, 12.6, 2.4],
            [30.2, 4.4, 1.2],
            [2.5, 2.5, 1.3],
        ]
    )
    second = first * torch.tensor([0.93, 1.04, 1.1]) + torch.tensor([0.37, -0.21, 0.0])
    faces = torch.tensor(
        [[0, 2, 1], [1, 2, 3], [0, 2, 1], [4, 6, 5], [0, 7, 7], [2, 7, 3], [4, 7, 5], [1, 7, 0]]
    )
    return torch.stack((first, second)), faces
