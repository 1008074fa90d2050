"""8-bit pictures and labels at the working size, the same for training, sampling and evaluation."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


def resized_levels(
    levels: Tensor,  # (F, 3, H, W) uint8
    size: tuple[int, int],  # height, width
    method: Image.Resampling = Image.Resampling.BICUBIC,  # of maps and warps; Lanczos of the portrait
) -> Tensor:  # (F, 3, height, width) uint8
    """Pictures as the released code resamples them: Pillow's filters, without aliasing. Those that have the
    size already are returned as they are."""
    if tuple(levels.shape[-2:]) == tuple(size):
        return levels
    pictures = levels.movedim(1, -1).contiguous().numpy()
    resized = [Image.fromarray(p).resize((size[1], size[0]), method) for p in pictures]
    return torch.from_numpy(np.stack([np.asarray(p) for p in resized])).movedim(-1, 1)


def resized_labels(
    labels: Tensor,  # (F, 1, H, W) uint8
    size: tuple[int, int],  # height, width
) -> Tensor:  # (F, 1, height, width) uint8
    """Labels cannot be mixed: each pixel takes the label at its centre."""
    if tuple(labels.shape[-2:]) == tuple(size):
        return labels
    return functional.interpolate(labels, size, mode="nearest-exact")


def resized_smoothly(
    values: Tensor,  # (N, C, H, W)
    size: tuple[int, int],
) -> Tensor:  # (N, C, height, width)
    """Numbers of any range, bilinear and without aliasing."""
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return functional.interpolate(values, size, mode="bilinear", align_corners=False, antialias=True)
