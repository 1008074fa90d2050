"""Small pictures of clips for the report."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from magicportrait_core.media.image import fit_within, from_levels, resize, to_levels
from magicportrait_core.resampling import resized_levels
from magicportrait_core.warp.sources import source_map_picture
from training.clip_store import MIRRORED_X, Clip

SIDE = 96  # pixels of a picture
SHOWN = 4  # frames of a clip
QUALITY = 80


def sheet_of_clip(clip: Clip) -> Image.Image:
    """The reference, some frames, and below each its maps."""
    frames = torch.linspace(0, len(clip.frames) - 1, SHOWN).round().long()
    rows = [clip.frames[frames]]
    rows += [as_picture(name, clip.maps[name][frames]) for name in clip.maps if name != MIRRORED_X]
    rows = [resized_levels(row, (SIDE, SIDE), Image.Resampling.LANCZOS) for row in rows]
    sheet = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    if clip.reference is not None:
        first = resized_levels(clip.reference[None], (SIDE, SIDE), Image.Resampling.LANCZOS)[0]
        column = torch.full((3, sheet.shape[1], SIDE), 255, dtype=torch.uint8)
        column[:, :SIDE] = first
        sheet = torch.cat((column, sheet), dim=2)
    return _image(sheet)


def sheet_of_frames(
    frames: Tensor,  # (F, 3, H, W) in [-1, 1]
) -> Image.Image:
    """Some pictures side by side."""
    size = fit_within(tuple(frames.shape[-2:]), SIDE)
    return _image(to_levels(resize(frames, size)).movedim(-1, 1).movedim(0, 2).flatten(2))


def as_picture(
    name: str,
    levels: Tensor,  # (F, C, H, W) uint8
) -> Tensor:  # (F, 3, H, W) uint8
    if name == "sources":
        return to_levels(source_map_picture(levels[:, 0].long())).movedim(-1, 1)
    return levels.expand(-1, 3, -1, -1)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        sheet.save(part, "jpeg", quality=QUALITY)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def crop_picture(crop: Tensor) -> Tensor:  # (1, 3, H, W) in [-1, 1]
    """A crop of levels (3, H, W) for `sheet_of_frames`."""
    return from_levels(crop.movedim(0, -1))[None]


def _image(levels: Tensor) -> Image.Image:
    return Image.fromarray(levels.movedim(0, -1).contiguous().numpy())
