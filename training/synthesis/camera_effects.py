"""What cameras do to a picture: exposure, contrast, softness, noise, JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from .colour import levels, to_encoded


@dataclass(frozen=True)
class CameraLook:
    """The same for all frames of a clip, except `flicker`."""

    exposure: float
    white: np.ndarray  # (3,) gains
    contrast: float
    saturation: float
    blur: float  # pixels
    noise: float  # standard deviation in 0..1
    jpeg: int | None  # quality
    flicker: float  # standard deviation of the logarithm of exposure between frames


def random_look(random: np.random.Generator, exposure: float) -> CameraLook:
    plain = random.random() < 0.4
    return CameraLook(
        exposure=exposure,
        white=np.exp(random.normal(0, 0.03 if plain else 0.08, 3)),
        contrast=1.0 if plain else random.uniform(0.85, 1.2),
        saturation=1.0 if plain else max(0.0, random.normal(1.0, 0.2)) if random.random() > 0.04 else 0.0,
        blur=random.uniform(0, 1.0) if random.random() < 0.35 else 0.0,
        noise=random.uniform(0, 0.012) if random.random() < 0.4 else 0.0,
        jpeg=int(random.integers(60, 96)) if random.random() < 0.35 else None,
        flicker=random.uniform(0, 0.02) if random.random() < 0.5 else 0.0,
    )


def photograph(
    random: np.random.Generator,
    linear: np.ndarray,  # (H, W, 3)
    look: CameraLook,
) -> np.ndarray:  # (H, W, 3) uint8
    exposure = look.exposure * np.exp(random.normal() * look.flicker)
    picture = to_encoded(linear * (exposure * look.white))
    grey = picture.mean(-1, keepdims=True)
    picture = grey + look.saturation * (picture - grey)
    picture = 0.5 + look.contrast * (picture - 0.5)
    if look.blur > 0:
        soft = Image.fromarray(levels(picture)).filter(ImageFilter.GaussianBlur(look.blur))
        picture = np.asarray(soft, np.float32) / 255
    if look.noise > 0:
        picture = picture + look.noise * random.standard_normal(picture.shape, np.float32)
    result = levels(picture)
    if look.jpeg is not None:
        stream = io.BytesIO()
        Image.fromarray(result).save(stream, "JPEG", quality=look.jpeg)
        result = np.asarray(Image.open(stream).convert("RGB"))
    return result
