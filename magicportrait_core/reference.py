"""The portrait as the networks see it: working size, aspect and resampling."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from .media.image import from_levels, to_levels
from .models.config import ModelConfig

LARGEST_SIDE = 4096


def working_size(
    portrait: tuple[int, int],  # height, width
    config: ModelConfig,
    shorter_side: int | None = None,  # None: the model's usual one
) -> tuple[int, int]:
    """Height and width to sample at: the portrait's aspect, as near as multiples of
    `config.pixel_multiple` come to it, with a shorter side of about `shorter_side`."""
    shorter_side = config.side if shorter_side is None else shorter_side
    unit = config.pixel_multiple
    if not unit <= shorter_side <= LARGEST_SIDE:
        raise ValueError(
            f"size={shorter_side}; expected a shorter side of {unit} to {LARGEST_SIDE} pixels; the model was "
            f"trained with {config.side}"
        )
    if min(portrait) < 1:
        raise ValueError(f"the portrait is {named(portrait)} pixels; expected a picture")
    shorter = max(1, round(shorter_side / unit))
    longer = max(shorter, round(shorter * max(portrait) / min(portrait)))
    if longer * unit > LARGEST_SIDE:
        raise ValueError(
            f"the portrait of {named(portrait)} would be sampled {longer * unit} pixels long, more than "
            f"{LARGEST_SIDE}; crop it nearer to a square, or choose a smaller size"
        )
    upright = portrait[0] >= portrait[1]
    return (longer * unit, shorter * unit) if upright else (shorter * unit, longer * unit)


def map_size(portrait: tuple[int, int], working: tuple[int, int]) -> tuple[int, int]:
    """The size to render maps at: the working size where the portrait's camera reaches it by scaling alone,
    else the nearest size of the portrait's aspect, which is then resampled."""
    height, width = working
    if abs(width - portrait[1] * height / portrait[0]) <= 1:
        return working
    height = max(1, round(portrait[0] * min(working) / min(portrait)))
    return height, max(1, round(portrait[1] * height / portrait[0]))


def undistorted_size(portrait: tuple[int, int], working: tuple[int, int]) -> tuple[int, int]:
    """The even size of the portrait's own aspect nearest to the working size's shorter side: frames resized
    to it are free of the slight stretch that multiples of 64 cause."""
    scale = min(working) / min(portrait)
    height, width = (max(2, 2 * round(side * scale / 2)) for side in portrait)
    return height, width


def resize_portrait(
    portrait: Tensor,  # (3, H, W) in [-1, 1]
    size: tuple[int, int],  # height, width
) -> Tensor:  # (3, height, width) in [-1, 1]
    """The portrait at the working size by Lanczos resampling of 8-bit levels, as released (facts: reference
    image); the portrait itself where it has this size."""
    if portrait.ndim != 3 or portrait.shape[0] != 3:
        raise ValueError(f"the portrait is {tuple(portrait.shape)}; expected one picture (3, height, width)")
    if not torch.isfinite(portrait).all():
        raise ValueError("the portrait holds values that are not finite numbers; load the picture again")
    if tuple(portrait.shape[-2:]) == tuple(size):
        return portrait.float()
    picture = Image.fromarray(to_levels(portrait).numpy())
    resized = picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return from_levels(torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.uint8).view(*size, 3))


def check_same_aspect(
    portrait: tuple[int, int],  # height, width
    guidance: tuple[int, int],  # height, width of the maps, or of what features were made for
    slack: float,  # pixels of the guidance's longer side by which rounding may have changed it
    what: str = "portrait",  # for the message
) -> None:
    """Raises ValueError unless the guidance can belong to the portrait."""
    (height, width), (rows, columns) = portrait, guidance
    off = rows - columns * height / width if height >= width else columns - rows * width / height
    if abs(off) > slack:
        raise ValueError(
            f"the guidance is {named(guidance)} and the {what} {named(portrait)} pixels, which is another "
            "aspect; make the guidance from the track of this portrait, with the same size"
        )


def named(size: tuple[int, int]) -> str:
    """height, width -> "width x height" for messages, as people write it."""
    return f"{size[1]}x{size[0]}"
