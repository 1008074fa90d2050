"""Small videos of a real face: scikit-image's astronaut (NASA, public domain), moved about."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from magicportrait_core.media.image import from_levels, resize, to_levels
from magicportrait_core.media.video import write_video

SIDE = 300  # pixels of the picture that a frame shows
CENTRE = (223, 130)  # of the face, in the picture of 512x512


def picture(name: str = "astronaut", blur: float = 0.0) -> Image.Image:
    from skimage import data

    return Image.fromarray(getattr(data, name)()).convert("RGB").filter(ImageFilter.GaussianBlur(blur))


def moving_face(frames: int, size: int = 240, step: float = 2.0, blur: float = 0.0) -> list[Tensor]:
    """Frames (3, size, size) in [-1, 1]: the face goes `step` pixels to the left a frame, and tilts."""
    photo = picture(blur=blur)
    out = []
    for i in range(frames):
        turned = photo.rotate(0.5 * i, Image.Resampling.BICUBIC, center=CENTRE)
        left, top = round(CENTRE[0] - SIDE / 2 + step * i), round(CENTRE[1] - SIDE / 2 + 20)
        out.append(_frame(turned, left, top, size))
    return out


def no_face(frames: int, size: int = 240) -> list[Tensor]:
    """A cup of coffee that goes by."""
    photo = picture("coffee")
    return [_frame(photo, 100 + i, 80, size) for i in range(frames)]


def side_by_side(large: Sequence[Tensor], small: Sequence[Tensor]) -> list[Tensor]:
    """Two videos in one picture, the second on the left at half size."""
    out = []
    for first, second in zip(large, small, strict=True):
        side = first.shape[-1]
        wide = torch.full((3, side, side + side // 2), -0.2)
        wide[:, :, side // 2 :] = first
        wide[:, : side // 2, : side // 2] = resize(second, (side // 2, side // 2))
        out.append(wide)
    return out


def save_mp4(path: Path, frames: Sequence[Tensor], fps: int = 12) -> Path:
    write_video(path, frames, Fraction(fps))
    return path


def save_animation(path: Path, frames: Sequence[Tensor], fps: int = 10) -> Path:
    """An animated WebP or GIF."""
    first, *rest = [Image.fromarray(to_levels(frame).numpy()) for frame in frames]
    first.save(path, save_all=True, append_images=rest, duration=1000 // fps, loop=0)
    return path


def _frame(photo: Image.Image, left: int, top: int, size: int) -> Tensor:
    shown = photo.crop((left, top, left + SIDE, top + SIDE)).resize((size, size), Image.Resampling.LANCZOS)
    return from_levels(torch.from_numpy(np.array(shown)))
