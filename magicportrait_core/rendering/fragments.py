"""What a rasteriser returns: for each pixel the triangle seen there, and where on it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Fragments:
    triangle: Tensor  # (F, H, W) int64, -1 where empty
    barycentric: Tensor  # (F, H, W, 3), 0 where empty; perspective-correct when the projection is
    depth: Tensor  # (F, H, W) depth of the projected vertices interpolated there, 0 where empty

    @property
    def covered(self) -> Tensor:  # (F, H, W) bool
        return self.triangle >= 0

    def interpolate(
        self,
        attributes: Tensor,  # (F or 1, V, D) a value per vertex
        faces: Tensor,  # (T, 3) int64
    ) -> Tensor:  # (F, H, W, D), 0 where empty
        """Vertex attributes at every covered pixel."""
        frames, height, width = self.triangle.shape
        out = attributes.new_zeros(frames, height, width, attributes.shape[-1])
        frame, row, column = self.covered.nonzero(as_tuple=True)
        corners = faces[self.triangle[frame, row, column]]  # (P, 3)
        source = frame if attributes.shape[0] > 1 else frame.new_zeros(frame.shape)
        weights = self.barycentric[frame, row, column].to(attributes.dtype)
        out[frame, row, column] = (attributes[source[:, None], corners] * weights[..., None]).sum(1)
        return out
