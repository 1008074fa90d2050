"""Where in a picture a network looks: a rotated rectangle, cut out and mapped back.

As in MediaPipe, sample k of a crop lies at k - size/2 crop pixels from the rectangle's centre, and a picture
coordinate of 0 is the centre of the first pixel while reading. Points are handed on unchanged, so that they
equal MediaPipe's (normalised coordinate times picture size).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

REGION_SCALE = 1.5  # a face's region over its box (face_landmarker graph)
RIGHT_EYE_CORNER, LEFT_EYE_CORNER = 33, 263  # outer corners; the person's right eye is left in the picture
NUM_FACE_POINTS = 468  # without irises


@dataclass(frozen=True)
class Region:
    """A rotated rectangle, in pixels."""

    x: float  # centre
    y: float
    width: float
    height: float
    angle: float = 0.0  # radians; positive turns the x axis towards y, clockwise as seen

    def to_picture(
        self,
        points: Tensor,  # (..., 2) or (..., 3), 0..1 over the rectangle; z in widths
    ) -> Tensor:  # the same in pixels of the picture
        u, v = (points[..., 0] - 0.5) * self.width, (points[..., 1] - 0.5) * self.height
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        x, y = self.x + u * cos - v * sin, self.y + u * sin + v * cos
        return torch.stack((x, y, *(points[..., 2:] * self.width).unbind(-1)), -1)


def cut(
    image: Tensor,  # (3, H, W) in [-1, 1]
    regions: Sequence[Region],
    size: int,
    outside: Literal["edge", "black"] = "edge",
    fraction: int | None = None,  # read at multiples of 1 / fraction of a pixel
) -> Tensor:  # (B, 3, size, size) whole levels 0..255, as MediaPipe's 8-bit crops
    extent = image.new_tensor([image.shape[-1], image.shape[-2]])
    steps = torch.arange(size, device=image.device, dtype=image.dtype) / size
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    unit = torch.stack((u, v), -1)
    places = torch.stack([region.to_picture(unit) for region in regions])
    if fraction:
        places = (places * fraction + 0.5).floor() / fraction  # ties go up, as in the reference
    batch = image[None].expand(len(regions), -1, -1, -1)
    grid = (2 * places + 1) / extent - 1
    levels = F.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)
    levels = (levels + 1) * 127.5
    if outside == "black":  # the share of each bilinear sample that comes from within the picture
        share = (1 + places).clamp(0, 1) * (extent - places).clamp(0, 1)
        levels = levels * share.prod(-1)[:, None]
    return levels.round()


def region_of_points(
    points: Tensor,  # (478, 3) pixels
) -> Region:
    """The region in which to look for the same face in the next frame: upright in the face's own frame."""
    eyes = points[LEFT_EYE_CORNER, :2] - points[RIGHT_EYE_CORNER, :2]
    angle = math.atan2(float(eyes[1]), float(eyes[0]))
    face = points[:NUM_FACE_POINTS, :2]
    middle = (face.amin(0) + face.amax(0)) / 2
    cos, sin = math.cos(angle), math.sin(angle)
    upright = (face - middle) @ points.new_tensor([[cos, -sin], [sin, cos]])
    low, high = upright.amin(0), upright.amax(0)
    u, v = ((low + high) / 2).tolist()
    side = float((high - low).max()) * REGION_SCALE
    x, y = middle.tolist()
    return Region(x + u * cos - v * sin, y + u * sin + v * cos, side, side, angle)


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (areas - width * height)
