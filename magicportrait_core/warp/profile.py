"""The far outline of the photo's face, as seen along the face: where the background begins beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .anatomy import CHIN, FOREHEAD, LEFT_EAR, NOSE_TIP, RIGHT_EAR
from .fill import ramp, smoothstep

BINS = 48
PROTRUDING = 0.34  # face widths from the face to the line that reflects: room for lenses
FAR_HALF = (0.35, 0.55)  # face widths inside the outline from where it is the near half of the face
TURNED = (0.12, 0.30)  # face widths of the nose from the middle of the ears: frontal, turned away
SPAN = (-0.1, 1.2)  # of the way from chin to forehead


@dataclass(frozen=True)
class Profile:
    chin: Tensor  # (2,) work pixels
    along: Tensor  # (2,) from chin to forehead, work pixels
    outward: Tensor  # (2,) unit, across the face towards the side that is turned away
    turned: float  # 0 for a frontal photo .. 1 for one that hides half of the face
    edge: Tensor  # (BINS,) work pixels along `outward` at which the face ends, over SPAN

    def reflect(
        self,
        pixels: Tensor,  # (P, 2) work pixels of the portrait
        face_width: float,  # work pixels
    ) -> tuple[Tensor, Tensor]:  # (P, 2), (P,)
        """Pixels on or near the face moved across its outline; and 1 on its far half, 0 on its near half."""
        height, depth = self.place(pixels)
        position = (height - SPAN[0]) / (SPAN[1] - SPAN[0]) * 2 - 1
        grid = torch.stack((position, torch.zeros_like(position)), dim=-1)[None, None]
        edge = F.grid_sample(self.edge[None, None, None], grid, padding_mode="border", align_corners=False)
        inside = edge.reshape(-1) - depth
        excess = (inside + PROTRUDING * face_width).clamp(min=0)
        far_half = 1 - smoothstep(*FAR_HALF, inside / face_width)
        return pixels + (2 * excess)[:, None] * self.outward, far_half

    def place(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Height (0 chin .. 1 forehead) and distance along `outward` (work pixels)."""
        from_chin = pixels - self.chin
        return from_chin @ self.along / (self.along @ self.along), from_chin @ self.outward


def profile_of(
    marks: Tensor,  # (478, 2) work pixels
    face: Tensor,  # (H, W) bool, bare skin of the face
    face_width: float,  # work pixels
) -> Profile:
    along = marks[FOREHEAD] - marks[CHIN]
    across = torch.stack((-along[1], along[0])) / along.norm().clamp(min=1e-6)
    nose = (marks[NOSE_TIP] - (marks[LEFT_EAR] + marks[RIGHT_EAR]) / 2) @ across
    outward = across if float(nose) >= 0 else -across
    turned = ramp(*TURNED, abs(float(nose)) / face_width)
    profile = Profile(marks[CHIN], along, outward, turned, marks.new_zeros(BINS))
    pixels = face.nonzero().flip(1) + 0.5
    height, depth = profile.place(pixels)
    place = ((height - SPAN[0]) / (SPAN[1] - SPAN[0]) * BINS).long()
    inside = (place >= 0) & (place < BINS)
    edge = marks.new_full((BINS,), -torch.inf).scatter_reduce(0, place[inside], depth[inside], "amax")
    return replace(profile, edge=_continued(edge))


def _continued(edge: Tensor) -> Tensor:
    """Empty bins take the value of the nearest filled one; then smoothed over three bins."""
    filled = edge.isfinite().nonzero().squeeze(1)
    if not len(filled):
        return torch.zeros_like(edge)
    everywhere = torch.arange(BINS, device=edge.device)
    nearest = filled[(everywhere[:, None] - filled[None]).abs().argmin(1)]
    padded = F.pad(edge[nearest][None, None], (1, 1), mode="replicate")
    return F.avg_pool1d(padded, 3, 1)[0, 0]
