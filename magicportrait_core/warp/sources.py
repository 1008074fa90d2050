"""Where each pixel of a warped frame came from, and how to show that to people."""

from __future__ import annotations

import torch
from torch import Tensor

SOURCES = ("photo", "mirrored", "stretched", "filled", "mouth", "outside")
PHOTO, MIRRORED, STRETCHED, FILLED, MOUTH, OUTSIDE = range(len(SOURCES))
COLOURS = (  # sRGB, 0..255
    (90, 200, 110),
    (80, 140, 255),
    (255, 170, 40),
    (255, 230, 60),
    (255, 60, 90),
    (60, 60, 60),
)


def source_map_picture(
    source_map: Tensor,  # (..., H, W) int64, index into SOURCES
) -> Tensor:  # (..., 3, H, W) in [-1, 1]
    """The source map in colours: green photo, blue mirrored, orange stretched, yellow filled, red mouth."""
    palette = torch.tensor(COLOURS, dtype=torch.float32, device=source_map.device) / 127.5 - 1
    return palette[source_map].movedim(-1, -3)


def source_shares(
    source_map: Tensor,  # (..., H, W) int64
) -> dict[str, float]:
    """Share of the pixels that came from each source; they sum to 1."""
    counts = source_map.reshape(-1).bincount(minlength=len(SOURCES)).double()
    return dict(zip(SOURCES, (counts / counts.sum()).tolist(), strict=True))
