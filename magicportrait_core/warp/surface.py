"""The target mesh as the picture shows it, packed: one row per covered pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..rendering.fragments import Fragments


@dataclass(frozen=True)
class VisibleSurface:
    size: tuple[int, int]  # height, width of the window
    pixel: Tensor  # (P,) int64, row * width + column
    triangle: Tensor  # (P,) int64
    corners: Tensor  # (P, 3) int64
    weights: Tensor  # (P, 3)
    depth: Tensor  # (P,)

    @staticmethod
    def of(fragments: Fragments, faces: Tensor) -> VisibleSurface:
        """The first frame of `fragments`."""
        triangle = fragments.triangle[0].reshape(-1)
        pixel = (triangle >= 0).nonzero().squeeze(1)
        triangle = triangle[pixel]
        return VisibleSurface(
            size=tuple(fragments.triangle.shape[1:]),
            pixel=pixel,
            triangle=triangle,
            corners=faces[triangle],
            weights=fragments.barycentric[0].reshape(-1, 3)[pixel],
            depth=fragments.depth[0].reshape(-1)[pixel],
        )

    def at_pixels(
        self,
        attributes: Tensor,  # (V, D)
    ) -> Tensor:  # (P, D)
        """Vertex attributes interpolated at the covered pixels."""
        gathered = attributes.index_select(0, self.corners.reshape(-1)).view(-1, 3, attributes.shape[1])
        return torch.einsum("pkd,pk->pd", gathered, self.weights)

    def picture(
        self,
        values: Tensor,  # (P,) or (P, D)
        empty: float = 0.0,
    ) -> Tensor:  # (D, H, W)
        """Values per covered pixel as a picture."""
        values = values[:, None] if values.ndim == 1 else values
        out = values.new_full((values.shape[1], self.size[0] * self.size[1]), empty)
        out.index_copy_(1, self.pixel, values.T)
        return out.view(-1, *self.size)

    def centres(self) -> Tensor:  # (P, 2) x, y of the pixel centres
        row = torch.div(self.pixel, self.size[1], rounding_mode="floor")
        return torch.stack((self.pixel - row * self.size[1], row), dim=-1) + 0.5

    def select(self, rows: Tensor) -> VisibleSurface:
        """Some of the covered pixels."""
        parts = (self.pixel, self.triangle, self.corners, self.weights, self.depth)
        return VisibleSurface(self.size, *(part[rows] for part in parts))
