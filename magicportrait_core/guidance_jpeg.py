"""Guidance maps as they look after the released system's files: JPEGs, where the driving frames were JPEGs.

The released renderer saves maps under the driving frames' names, and the networks may have been trained on
such files (facts d.7). Off in the released defaults here: PNG frames leave the maps as they are.
"""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .guidance import GuidanceMaps

QUALITY = 75  # Pillow's default, with colours at half resolution


def as_jpeg(maps: GuidanceMaps, quality: int = QUALITY) -> GuidanceMaps:
    """The maps saved as JPEG and read again. Negative normals are 0 in such a picture and stay so."""
    if not 1 <= quality <= 95:
        raise ValueError(f"JPEG quality={quality}; expected 1 to 95, released: {QUALITY}")
    depth = _saved(maps.depth_levels.expand(-1, 3, -1, -1), quality)[:, :1]
    normal = _saved(maps.normal.mul(255).round().to(torch.uint8), quality)
    render = _saved(maps.render_levels, quality)
    return replace(maps, depth_levels=depth, normal_levels=normal, render_levels=render, flags=maps.flags & 1)


def _saved(levels: Tensor, quality: int) -> Tensor:  # (F, 3, H, W) uint8
    out = torch.empty_like(levels, memory_format=torch.contiguous_format)
    for frame, picture in zip(out, levels.movedim(1, -1).cpu().numpy(), strict=True):
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=quality)
        with Image.open(file) as read:
            frame.copy_(torch.from_numpy(np.array(read)).movedim(-1, 0))
    return out
