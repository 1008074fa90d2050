"""Random fields: noise of many scales, soft shapes, samples of a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch.nn.functional import interpolate


def fractal_noise(
    random: np.random.Generator,
    size: tuple[int, int],  # height, width
    coarsest: int,  # cells along the shorter side
    finest: int,
    channels: int = 1,
    persistence: float = 0.6,  # amplitude of each octave beside the one before
) -> np.ndarray:  # (height, width, channels), standard deviation 1
    """Fractional Brownian motion: octaves of smooth noise, each grown by a factor 2 from the one before."""
    shorter = min(size)
    field, cells, amplitude = None, coarsest, 1.0
    while cells <= max(finest, coarsest) and cells <= 2 * shorter:
        shape = [max(2, round(cells * side / shorter)) for side in size]
        octave = amplitude * torch.from_numpy(random.standard_normal((1, channels, *shape), np.float32))
        field = octave if field is None else resized(field, shape) + octave
        cells, amplitude = 2 * cells, amplitude * persistence
    field = resized(field, size)[0]
    return (field / field.std(dim=(1, 2), keepdim=True).clamp(min=1e-6)).movedim(0, -1).numpy()


def resized(field: torch.Tensor, size: Sequence[int]) -> torch.Tensor:  # (1, C, H, W)
    return interpolate(field, tuple(size), mode="bilinear", align_corners=False)


def soft_polygon(
    points: np.ndarray,  # (N, 2) x, y in pixels
    size: tuple[int, int],  # height, width
    blur: float,  # pixels, Gaussian
    grow: float = 1.0,  # about the polygon's centre
    shift: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:  # (height, width) 0..1
    centre = points.mean(0)
    points = (points - centre) * grow + centre + np.asarray(shift)
    picture = Image.new("L", (2 * size[1], 2 * size[0]))  # twice as fine: no stairs on thin shapes
    ImageDraw.Draw(picture).polygon([(2 * float(x), 2 * float(y)) for x, y in points], fill=255)
    picture = picture.resize((size[1], size[0]), Image.Resampling.BOX)
    if blur > 0:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(picture, np.float32) / 255


def bumps(
    size: tuple[int, int],
    centres: np.ndarray,  # (N, 2) x, y in pixels
    radii: np.ndarray,  # (N,) pixels
    heights: np.ndarray,  # (N,)
) -> np.ndarray:  # (height, width)
    """A sum of small Gaussian spots, each drawn only where it is."""
    field = np.zeros(size, np.float32)
    for (x, y), radius, height in zip(centres, radii, heights, strict=True):
        reach = int(3 * radius) + 1
        top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
        rows = np.arange(top, min(int(y) + reach + 1, size[0]), dtype=np.float32)
        columns = np.arange(left, min(int(x) + reach + 1, size[1]), dtype=np.float32)
        if len(rows) and len(columns):
            spot = np.exp(-((rows[:, None] - y) ** 2 + (columns - x) ** 2) / (2 * radius**2))
            field[top : top + len(rows), left : left + len(columns)] += height * spot
    return field


def sample(
    picture: np.ndarray,  # (H, W, C)
    x: np.ndarray,  # (...) pixels, centres at +0.5
    y: np.ndarray,
) -> np.ndarray:  # (..., C)
    """Bilinear, repeating at the edges of x, clamped in y."""
    height, width = picture.shape[:2]
    x, y = x - 0.5, np.clip(y - 0.5, 0, height - 1)
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, bottom = (x - left)[..., None], (y - top)[..., None]
    below = np.minimum(top + 1, height - 1)
    one, two = left % width, (left + 1) % width
    upper = picture[top, one] * (1 - right) + picture[top, two] * right
    lower = picture[below, one] * (1 - right) + picture[below, two] * right
    return upper * (1 - bottom) + lower * bottom


def step(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
