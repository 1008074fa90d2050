"""Pictures without copyright that Python packages ship: patches for cloth and backgrounds."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .colour import to_linear

# scikit-image says of each: CC0 or public domain. Others that it ships are left alone.
TEXTURES = {
    "astronaut": "NASA, public domain",
    "camera": "Lav Varshney, CC0",
    "coffee": "Rachel Michetti, CC0",
    "chelsea": "Stefan van der Walt, CC0",
    "brick": "CC0Textures Bricks25, CC0",
    "gravel": "CC0Textures Gravel04, CC0",
    "grass": "linolafett, CC0",
    "rocket": "SpaceX, public domain",
    "hubble_deep_field": "NASA, public domain",
    "retina": "Mikael Haggstrom, CC0",
}


@lru_cache(maxsize=1)
def texture_pictures() -> tuple[np.ndarray, ...]:  # each (H, W, 3) uint8
    """ImportError of one sentence where scikit-image is missing."""
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(
            "scikit-image is missing, whose free pictures give cloth and backgrounds their texture: "
            "pip install scikit-image"
        ) from error
    pictures = [np.asarray(getattr(data, name)()) for name in TEXTURES]
    return tuple(p if p.ndim == 3 else np.repeat(p[..., None], 3, 2) for p in pictures)


def random_patch(
    random: np.random.Generator, smallest: int = 40, largest: int = 260
) -> np.ndarray:  # (h, w, 3) linear, square
    """A square of a picture; grey pictures get a colour."""
    pictures = texture_pictures()
    picture = pictures[random.integers(len(pictures))]
    side = int(min(random.integers(smallest, largest), *picture.shape[:2]))
    top = int(random.integers(0, picture.shape[0] - side + 1))
    left = int(random.integers(0, picture.shape[1] - side + 1))
    patch = to_linear(picture[top : top + side, left : left + side, :3].astype(np.float32) / 255)
    if np.ptp(patch.mean((0, 1))) < 0.02:
        patch = np.clip(patch * random.uniform(0.5, 1.3, 3).astype(np.float32), 0, 1)
    return patch[:, ::-1] if random.random() < 0.5 else patch
