"""A small network's picture on a large warp: the large picture is the warp, and what the network adds to it
at the working size is enlarged and added there (facts/SMALL_MODEL.md 6)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .diffusion.preconditioning import grown
from .models.config import WarpPriorConfig
from .warp.sources import OUTSIDE


def correction_weight(
    labels: Tensor,  # (N, 1, H, W) uint8, index into warp.sources.SOURCES
    config: WarpPriorConfig,
    pixels_per_cell: int,
) -> Tensor:  # (N, 1, H, W) float32, 0..1
    """How much of the network's correction to use: 1 on the head and in the ring where the prior expects
    large errors (`near_cells`), falling evenly to 0 at the end of the ring called around (`around_cells`).

    Beyond it the warp is the still portrait, and all that the network could add is a haze.
    """
    head = functional.max_pool2d((labels != OUTSIDE).float(), pixels_per_cell)
    fade = (config.around_cells - config.near_cells) // 2
    cells = functional.avg_pool2d(
        grown(head, config.around_cells - fade), 2 * fade + 1, 1, fade, count_include_pad=False
    )
    return functional.interpolate(cells, labels.shape[-2:], mode="bilinear", align_corners=False)


def corrected(
    warp: Tensor,  # (3, H, W) in [-1, 1]
    small_warp: Tensor,  # (3, h, w) in [-1, 1], the same at the working size
    small: Tensor,  # (3, h, w) in [-1, 1], the network's picture
    weight: Tensor,  # (1, h, w) 0..1
) -> Tensor:  # (3, H, W) in [-1, 1]
    """The warp with the network's correction. Where both are one size and the weight is 1 it is the
    network's picture itself; where that agrees with the warp, or the weight is 0, it is the warp, exactly.
    """
    if warp.shape == small.shape:
        return torch.lerp(warp, small, weight.expand_as(small))
    correction = (weight * (small - small_warp))[None]
    size = warp.shape[-2:]
    large = functional.interpolate(correction, size, mode="bicubic", align_corners=False, antialias=True)
    return (warp + large[0]).clamp(-1, 1)
