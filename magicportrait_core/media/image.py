"""Reading, writing and resizing still pictures. A picture is (3, H, W) float32 in [-1, 1]."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

Background = Literal["grey", "white", "black"]
BACKGROUND_LEVELS = {"grey": 128, "white": 255, "black": 0}
Filter = Literal["area", "bicubic", "bilinear"]


def load_image(
    source: str | os.PathLike | BinaryIO,
    background: Background = "grey",  # what lies behind transparent parts
) -> Tensor:  # (3, H, W) in [-1, 1]
    """Any picture Pillow reads, upright (EXIF), 8 or 16 bits, grey, palette, CMYK or transparent; of an
    animation, the first frame."""
    if background not in BACKGROUND_LEVELS:
        raise ValueError(f"background={background!r}; expected one of {', '.join(BACKGROUND_LEVELS)}")
    name = display_name(source)
    try:
        with Image.open(source) as picture:
            return from_pillow(ImageOps.exif_transpose(picture), background)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no picture at {name}; check the path") from error
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{name} cannot be read as a picture ({reason_of(error)}); save it again as PNG or JPEG"
        ) from error


def from_pillow(picture: Image.Image, background: Background = "grey") -> Tensor:  # (3, H, W) in [-1, 1]
    if picture.mode in ("I;16", "I;16L", "I;16B", "I", "F"):
        return _from_deep_grey(picture)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        level = BACKGROUND_LEVELS[background]
        behind = Image.new("RGBA", picture.size, (level, level, level, 255))
        picture = Image.alpha_composite(behind, picture)
    levels = torch.from_numpy(np.array(picture.convert("RGB")))
    return from_levels(levels)


def _from_deep_grey(picture: Image.Image) -> Tensor:
    """Greyscale with more than 8 bits; full scale is 65535, or 255 when no value exceeds it."""
    values = torch.from_numpy(np.asarray(picture).astype(np.float32))
    if picture.mode == "F" and values.amax() <= 1:
        full_scale = 1.0
    else:
        full_scale = 255.0 if values.amax() <= 255 and picture.mode in ("I", "F") else 65535.0
    return (values / full_scale * 2 - 1).clamp(-1, 1).expand(3, -1, -1).contiguous()


def from_levels(
    levels: Tensor,  # (..., H, W, 3) uint8
) -> Tensor:  # (..., 3, H, W) in [-1, 1]
    return levels.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)


def to_levels(
    picture: Tensor,  # (..., 3, H, W) in [-1, 1]
) -> Tensor:  # (..., H, W, 3) uint8 on the CPU
    levels = picture.detach().float().add(1).mul(127.5).round_().clamp_(0, 255)
    return levels.movedim(-3, -1).to("cpu", torch.uint8).contiguous()


def save_image(picture: Tensor, path: str | os.PathLike) -> None:
    """Writes (3, H, W) in [-1, 1]; the format follows the file's name (.png, .jpg, .webp)."""
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise ValueError(f"picture is {tuple(picture.shape)}; expected (3, H, W), one picture")
    path = Path(path)
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{path.name!r} does not name a picture format; use .png, .jpg or .webp")
    Image.fromarray(to_levels(picture).numpy()).save(path, quality=95)


def resize(
    pictures: Tensor,  # (3, H, W) or (F, 3, H, W)
    size: tuple[int, int],  # height, width
    method: Filter = "bicubic",
) -> Tensor:
    """Resized without aliasing: shrinking averages. Bicubic overshoot is clamped to [-1, 1]."""
    if min(size) < 1:
        raise ValueError(f"size={size}; expected height and width of at least 1 pixel")
    if tuple(pictures.shape[-2:]) == tuple(size):
        return pictures
    batch = pictures if pictures.ndim == 4 else pictures[None]
    if method == "area":
        resized = F.interpolate(batch, size, mode="area")
    elif method in ("bicubic", "bilinear"):
        resized = F.interpolate(batch, size, mode=method, antialias=True, align_corners=False).clamp(-1, 1)
    else:
        raise ValueError(f"method={method!r}; expected 'area', 'bicubic' or 'bilinear'")
    return resized if pictures.ndim == 4 else resized[0]


def fit_within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """`size` (height, width) scaled so that its longer side is `longest`; never below one pixel."""
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def display_name(source: object) -> str:
    """The file's name for messages; streams have none."""
    return repr(Path(source).name) if isinstance(source, (str, os.PathLike)) else "the given data"


def reason_of(error: Exception) -> str:
    """What went wrong, without the path and the number that libraries put around it."""
    if isinstance(error, UnidentifiedImageError):
        return "unknown format"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0]
