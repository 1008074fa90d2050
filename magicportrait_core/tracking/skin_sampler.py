"""Colours at fixed places of a face's surface, whatever its pose and expression."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .landmarker import CanonicalFace

GRID = 40  # samples across the canonical face's front view
LEFT, RIGHT, TOP, BOTTOM = -7.2, 7.2, 7.6, -8.8  # centimetres, canonical frame
EYE_HEIGHT, EYE_DISTANCE = 2.664, 8.892  # centimetres, of the canonical face's outer eye corners
FACING = 0.35  # cosine towards the viewer from which skin is compared


@dataclass(frozen=True)
class SkinSampler:
    """Fixed places on the face's surface as mixtures of three landmarks each."""

    corners: Tensor  # (N, 3) int64 landmarks
    weights: Tensor  # (N, 3)
    places: Tensor  # (N, 2) x, y in the canonical front view, centimetres

    @classmethod
    def of(cls, canonical: CanonicalFace) -> SkinSampler:
        steps_x, steps_y = torch.linspace(LEFT, RIGHT, GRID), torch.linspace(TOP, BOTTOM, GRID)
        places = torch.stack(torch.meshgrid(steps_x, steps_y, indexing="xy"), -1).reshape(-1, 2)
        triangles = canonical.triangles.long()
        a, b, c = canonical.vertices[triangles].unbind(1)  # (T, 3) each
        ab, ac, ap = b - a, c - a, places[:, None] - a[None, :, :2]
        area = _cross(ab, ac)
        second, third = _cross(ap, ac) / area, _cross(ab, ap) / area  # (G, T)
        weights = torch.stack((1 - second - third, second, third), -1)
        depth = torch.where(
            (weights >= 0).all(-1), (weights * torch.stack((a, b, c), -1)[:, 2]).sum(-1), -torch.inf
        )
        front = depth.argmax(1)
        kept = depth.amax(1).isfinite()
        rows = torch.arange(len(places))[kept]
        return cls(triangles[front[kept]], weights[rows, front[kept]], places[kept])

    def colours(
        self,
        frame: Tensor,  # (3, H, W) in [-1, 1]
        points: Tensor,  # (478, 3) pixels
    ) -> Tensor:  # (N, 3) uint8
        spots = (points[self.corners, :2] * self.weights[..., None]).sum(1)
        grid = 2 * spots / spots.new_tensor([frame.shape[-1], frame.shape[-2]]) - 1
        read = F.grid_sample(
            frame[None].float(), grid[None, None].to(frame.device), align_corners=False, padding_mode="border"
        )
        return ((read[0, :, 0].T.cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def visible(
        self,
        points: Tensor,  # (F, 478, 3)
        size: tuple[int, int],  # height, width of the frames
    ) -> tuple[Tensor, Tensor]:  # (F, N) bool: turned towards the viewer; within the picture
        corners = points[:, self.corners]  # (F, N, 3, 3)
        normal = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
        spots = (corners[..., :2] * self.weights[..., None]).sum(2)
        inside = ((spots >= 0) & (spots < spots.new_tensor([size[1], size[0]]))).all(-1)
        return normal[..., 2].abs() > FACING * normal.norm(dim=-1), inside

    @property
    def eye_distances(self) -> Tensor:  # (N, 2) from the middle between the outer eye corners
        return (self.places - self.places.new_tensor([0.0, EYE_HEIGHT])) / EYE_DISTANCE


@lru_cache(maxsize=1)
def skin_sampler(canonical: CanonicalFace) -> SkinSampler:
    """The sampler of a canonical face; it takes a tenth of a second to make."""
    return SkinSampler.of(canonical)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
