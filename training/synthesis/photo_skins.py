"""Skin, eyes and lips of photographed people, without their light, to be mixed into painted skins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from magicportrait_core.appearance import appearance_from_portrait
from magicportrait_core.media.image import from_levels

from .colour import to_linear
from .fields import fractal_noise, soft_polygon, step
from .portraits import Portrait
from .surface import HeadSurface

FACE = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
SHRINK = 0.86  # of the face's outline: beyond, photos show hair and the far cheek
WEARS_GLASSES = ("grace_hopper",)
EYE_BAND = (0.712, 0.762)  # metres, height on the template of what glasses hide


@dataclass(frozen=True)
class PhotoSkin:
    detail: np.ndarray  # (S, S, 3) logarithm of the albedo beside the person's usual skin
    mask: np.ndarray  # (S, S) 0..1 where the photo shows skin


def photo_skins(surface: HeadSurface, portraits: Sequence[Portrait]) -> tuple[PhotoSkin, ...]:
    return tuple(_skin_of(surface, portrait) for portrait in portraits)


def _skin_of(surface: HeadSurface, portrait: Portrait) -> PhotoSkin:
    import torch

    picture = from_levels(torch.tensor(portrait.picture))
    albedo = appearance_from_portrait(surface.head, portrait.track, picture, surface.side).albedo
    linear = np.maximum(to_linear(albedo.movedim(0, -1).numpy()), 0.004)
    size = linear.shape[:2]
    outline = surface.landmarks[list(FACE)]
    mask = soft_polygon(outline, size, 0.012 * surface.side, SHRINK)
    mask *= (surface.region == 0) & ~surface.cavity
    if portrait.name in WEARS_GLASSES:
        y = surface.points[..., 1]
        low, high = EYE_BAND
        mask *= 1 - step(low - 0.006, low + 0.002, y) * step(high + 0.006, high - 0.002, y)
    usual = np.median(np.log(linear[mask > 0.9]), axis=0)
    detail = np.clip(np.log(linear) - usual, -4, 1.2)
    return PhotoSkin(detail.astype(np.float32), mask.astype(np.float32))


def mix_in(
    random: np.random.Generator,
    texture: np.ndarray,  # (S, S, 3) linear albedo, changed
    tone: np.ndarray,  # (3,) linear
    skins: Sequence[PhotoSkin],
) -> np.ndarray:  # (S, S) how much of each texel is now photographed
    """Lay the detail of one photo, or of two in patches, over a painted skin of any tone."""
    first, second = (skins[random.integers(len(skins))] for _ in range(2))
    detail, mask = first.detail, first.mask
    if second is not first:
        patches = step(-0.4, 0.4, fractal_noise(random, mask.shape, 6, 12)[..., 0] + random.normal(0, 0.7))
        one, two = mask * (1 - patches), second.mask * patches
        mask = np.maximum(mask, second.mask)
        share = (two + 1e-6) / (one + two + 2e-6)
        detail = detail + share[..., None] * (second.detail - detail)
    if random.random() < 0.5:
        detail, mask = detail[:, ::-1], mask[:, ::-1]
    amount = (random.uniform(0.5, 1.0) * mask)[..., None]
    contrast = random.uniform(0.7, 1.15)
    grey = detail.mean(-1, keepdims=True)
    colour = random.uniform(0.4, 1.0)
    wanted = np.log(tone) + contrast * (grey + colour * (detail - grey))
    texture[...] = np.exp(np.log(np.maximum(texture, 0.003)) * (1 - amount) + amount * wanted)
    return amount[..., 0]
