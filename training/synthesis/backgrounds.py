"""What stands behind a person: photos, walls, rooms of boxes, lights out of focus."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .colour import levels, to_encoded, to_linear
from .fields import fractal_noise
from .photo_textures import random_patch


def random_background(random: np.random.Generator, side: int) -> np.ndarray:  # (side, side, 3) linear
    """A square picture, often out of focus."""
    kind = random.random()
    if kind < 0.45:
        patch = Image.fromarray(levels(to_encoded(random_patch(random, 80, 400))))
        picture = patch.resize((side, side), Image.Resampling.BICUBIC)
    elif kind < 0.70:
        picture = Image.fromarray(levels(to_encoded(_wall(random, side))))
    else:
        picture = _boxes(random, side, round_ones=kind > 0.9)
    blur = random.uniform(0, 0.05) ** 1.3 * side if random.random() < 0.75 else 0.0
    if blur > 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    linear = to_linear(np.asarray(picture, np.float32) / 255)
    return linear * np.exp(random.normal(0, 0.3))


def _wall(random: np.random.Generator, side: int) -> np.ndarray:
    """One colour with a gradient of light and some dirt."""
    colour = random.uniform(0.02, 0.9) * random.uniform(0.7, 1.0, 3)
    place = np.mgrid[:side, :side] / side - 0.5
    slope = random.normal(0, 0.8, 2)
    light = np.exp(place[0] * slope[0] + place[1] * slope[1])[..., None]
    noise = fractal_noise(random, (side, side), 2, 32, 1 if random.random() < 0.7 else 3)
    return np.clip(colour * light * np.exp(random.uniform(0, 0.2) * noise), 0, 1)


def _boxes(random: np.random.Generator, side: int, round_ones: bool) -> Image.Image:
    """Rectangles like shelves, windows and doors, or discs like lights out of focus."""
    base = tuple(int(v) for v in random.uniform(10, 220, 3))
    picture = Image.new("RGB", (side, side), base)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(random.integers(4, 30))):
        x, y = random.uniform(-0.1, 1.0, 2) * side
        wide, high = random.uniform(0.02, 0.45, 2) * side
        colour = tuple(int(v) for v in np.clip(random.uniform(0, 255) * random.uniform(0.7, 1.2, 3), 0, 255))
        if round_ones:
            draw.ellipse((x, y, x + min(wide, high), y + min(wide, high)), fill=colour)
        else:
            draw.rectangle((x, y, x + wide, y + high), fill=colour)
    return picture
