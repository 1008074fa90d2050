"""The portraits in the public domain that Python packages ship, and portraits of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from magicportrait_core.head.model import HeadModel
from magicportrait_core.media.image import from_levels, load_image, to_levels
from magicportrait_core.tracking.landmarker import Landmarker
from magicportrait_core.tracking.track import FaceTrack
from magicportrait_core.tracking.tracker import track_portrait

ASTRONAUT_CROP = (40, 0, 410, 370)  # left, top, right, bottom in scikit-image's photo of 512 x 512
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Portrait:
    name: str
    picture: np.ndarray  # (H, W, 3) uint8
    track: FaceTrack  # of one frame


def packaged_portraits(landmarker: Landmarker, head: HeadModel) -> tuple[Portrait, ...]:
    """Eileen Collins (NASA, in scikit-image) and Grace Hopper (US Navy, in matplotlib), both public domain.

    ImportError of one sentence where a package is missing.
    """
    try:
        from matplotlib.cbook import get_sample_data
        from skimage import data
    except ImportError as error:
        raise ImportError(
            f"{error.name} is missing, which ships a portrait in the public domain: "
            "pip install scikit-image matplotlib"
        ) from error
    astronaut = Image.fromarray(data.astronaut()).crop(ASTRONAUT_CROP)
    with get_sample_data("grace_hopper.jpg") as file:
        hopper = Image.open(file).convert("RGB")
    pictures = {"astronaut": astronaut, "grace_hopper": hopper}
    return tuple(tracked(name, np.array(p), landmarker, head) for name, p in pictures.items())


def portraits_of(folder: Path, landmarker: Landmarker, head: HeadModel) -> tuple[Portrait, ...]:
    """All pictures of a folder in which a face is found; ValueError where there is none."""
    found = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES):
        try:
            found.append(tracked(path.stem, to_levels(load_image(path)).numpy(), landmarker, head))
        except ValueError as error:
            print(f"{path.name} is left out: {error}")
    if not found:
        raise ValueError(f"{folder} holds no picture with a face ({', '.join(PICTURES)})")
    return tuple(found)


def tracked(name: str, picture: np.ndarray, landmarker: Landmarker, head: HeadModel) -> Portrait:
    """ValueError where no face is found."""
    return Portrait(name, picture, track_portrait(from_levels(torch.tensor(picture)), landmarker, head))
