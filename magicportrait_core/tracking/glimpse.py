"""Whether the picture of a face has changed since the face was read in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from .face_region import region_of_points
from .observation import FaceObservation

SAMPLES = 128  # along the longer side of the face's region, at most
CELLS = 16  # along each side
NOISE = 1.0  # of 255 levels: mean change of a cell up to which it counts as coding noise


@dataclass(frozen=True)
class Glimpse:
    """Samples of a picture around a face. Later pictures are compared with it until one differs, so that a
    slow motion adds up and is seen.
    """

    face: FaceObservation  # read in this picture
    rows: slice
    columns: slice
    samples: Tensor  # (3, h, w) in [-1, 1]

    @classmethod
    def of(
        cls,
        frame: Tensor,  # (3, H, W) in [-1, 1]
        face: FaceObservation,
    ) -> Glimpse:
        region = region_of_points(face.points)
        step = max(1, -int(-region.width // SAMPLES))
        rows, columns = (
            _span(middle, region.width / 2, side, step)
            for middle, side in ((region.y, frame.shape[-2]), (region.x, frame.shape[-1]))
        )
        return cls(face, rows, columns, frame[:, rows, columns].clone())

    def unchanged(
        self,
        frame: Tensor,  # (3, H, W), of the same size
    ) -> bool:
        """True where every cell shows the same but for coding noise."""
        change = (frame[:, self.rows, self.columns] - self.samples).abs().mean(0, keepdim=True)
        return float(F.adaptive_avg_pool2d(change, CELLS).max()) * 127.5 <= NOISE


def _span(middle: float, half: float, side: int, step: int) -> slice:
    """Every `step`-th pixel of a row or column around a face, at least one and inside the picture."""
    start = min(max(int(middle - half), 0), side - 1)
    return slice(start, max(min(int(middle + half), side), start + 1), step)
