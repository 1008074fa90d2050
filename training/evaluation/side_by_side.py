"""Videos to look at: portrait, driver or truth, and what every method made of them, under their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from magicportrait_core.media.image import fit_within, from_levels
from magicportrait_core.media.video_writing import write_video

PANEL_SIDE = 288  # pixels, the longer side
LABEL_HEIGHT = 24
BACKGROUND = (24, 26, 30)
INK = (225, 228, 232)


def write_side_by_side(
    path: Path,
    columns: dict[str, Tensor],  # label -> frames (F, 3, H, W) uint8; one frame stays
    fps: float,
    side: int = PANEL_SIDE,
) -> None:
    """An mp4 with a panel for every column."""
    write_video(path, (from_levels(frame) for frame in panels(columns, side)), fps)


def panels(columns: dict[str, Tensor], side: int = PANEL_SIDE) -> Iterator[Tensor]:
    """(H, W, 3) uint8 for every frame of the longest column."""
    strip = np.concatenate([label(name, side) for name in columns], axis=1)
    for i in range(max(map(len, columns.values()))):
        row = [panel(frames[min(i, len(frames) - 1)], side) for frames in columns.values()]
        yield torch.from_numpy(np.concatenate((strip, np.concatenate(row, axis=1))))


def panel(frame: Tensor, side: int) -> np.ndarray:
    picture = Image.fromarray(frame.movedim(0, -1).contiguous().numpy())
    height, width = fit_within(tuple(frame.shape[-2:]), side)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (side, side), BACKGROUND)
    canvas.paste(picture, ((side - width) // 2, (side - height) // 2))
    return np.asarray(canvas)


def label(name: str, side: int) -> np.ndarray:
    canvas = Image.new("RGB", (side, LABEL_HEIGHT), BACKGROUND)
    font = ImageFont.load_default(14)
    ImageDraw.Draw(canvas).text((8, LABEL_HEIGHT // 2), name, font=font, fill=INK, anchor="lm")
    return np.asarray(canvas)
