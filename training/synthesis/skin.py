"""Skin, lips, brows, beard, marks, eyes and mouth of a random person, painted as linear albedo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from magicportrait_core.head.model import LOWER_TEETH, TONGUE, UPPER_TEETH

from .colour import to_linear
from .eyes import paint_eyes
from .fields import bumps, fractal_noise, soft_polygon, step
from .photo_skins import PhotoSkin, mix_in
from .surface import HeadSurface

TONES = to_linear(  # sRGB of skin from light to dark, in bright diffuse light
    np.array(
        [
            [250, 222, 205],
            [240, 200, 175],
            [226, 178, 146],
            [202, 150, 112],
            [166, 114, 80],
            [120, 78, 54],
            [78, 52, 40],
        ],
        np.float32,
    )
    / 255
)
RIGHT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
LEFT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
CHEEKS, NOSE_TIP, CHIN_MIDDLE = (50, 280), 4, 199
WITH_PHOTO = 0.65  # of the people have detail of a photographed skin
PAINTED_TOO = 0.25  # of those have painted lips, lashes or brows over it
FACE_WINDOW = (0.19, 0.53, 0.29, 0.71)  # top, bottom, left, right of the face in the texture


@dataclass(frozen=True)
class Window:
    """A part of the texture, in texels; details are painted there only."""

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def of(self, texture: np.ndarray) -> np.ndarray:
        return texture[self.top : self.top + self.height, self.left : self.left + self.width]


def face_window(side: int) -> Window:
    top, bottom, left, right = (round(share * side) for share in FACE_WINDOW)
    return Window(top, left, bottom - top, right - left)


def random_tone(random: np.random.Generator) -> np.ndarray:  # (3,) linear albedo
    """The skin colours of all people, light to dark about equally often."""
    place = random.uniform(0, len(TONES) - 1)
    first = min(int(place), len(TONES) - 2)
    tone = TONES[first] + (place - first) * (TONES[first + 1] - TONES[first])
    return tone * random.uniform(0.93, 1.07, 3) * random.uniform(0.75, 1.0)


def paint_skin(
    random: np.random.Generator,
    surface: HeadSurface,
    tone: np.ndarray,  # (3,) linear
    hair: np.ndarray,  # (3,) linear
    skins: Sequence[PhotoSkin] = (),
) -> np.ndarray:  # (S, S, 3) linear albedo
    """The bald head of a random person, with detail of photographed skins where there are some."""
    side = surface.side
    texture = np.ones((side, side, 3), np.float32) * tone.astype(np.float32)
    texture *= np.exp(random.uniform(0.02, 0.07) * fractal_noise(random, (side, side), 4, 64))
    texture *= np.exp(random.uniform(0.0, 0.03) * fractal_noise(random, (side, side), 8, 32, 3))
    texture *= np.exp(random.uniform(0.01, 0.05) * fractal_noise(random, (side, side), 128, 256))
    window = face_window(side)
    face = window.of(texture)
    marks = surface.landmarks - np.array([window.left, window.top])
    _tint(random, face, marks)
    _wrinkles(random, face, marks)
    _spots(random, face)
    photographed = bool(skins) and random.random() < WITH_PHOTO
    if photographed:
        mix_in(random, texture, tone, skins)
    for paint in (_lips, _eye_lines, _brows):
        if not photographed or random.random() < PAINTED_TOO:
            paint(random, face, marks, tone, hair)
    _beard(random, texture, surface, hair)
    paint_mouth(random, texture, surface)
    paint_eyes(random, texture, surface.eyes)
    return np.clip(texture, 0.003, 0.9)


def _over(picture: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> None:
    picture += mask[..., None] * (colour - picture)


def _tint(random: np.random.Generator, face: np.ndarray, marks: np.ndarray) -> None:
    """Redder cheeks, nose and chin; paler or darker round the eyes."""
    size, unit = face.shape[:2], face.shape[1] / 10
    for point in (*CHEEKS, NOSE_TIP, CHIN_MIDDLE):
        spot = bumps(size, marks[[point]], np.array([random.uniform(0.4, 1.0) * unit]), np.ones(1))
        face *= np.exp(-random.uniform(-0.05, 0.35) * spot[..., None] * np.array([0.15, 1.0, 0.9]))
    strength = random.uniform(-0.1, 0.45)
    for eye in (RIGHT_EYE, LEFT_EYE):
        ring = soft_polygon(marks[list(eye)], size, 0.25 * unit, 1.5, (0, 0.15 * unit))
        face *= np.exp(-strength * ring[..., None] * np.array([0.8, 1.0, 0.9]))


def _wrinkles(random: np.random.Generator, face: np.ndarray, marks: np.ndarray) -> None:
    """Folds beside the nose, lines on the forehead and below the eyes, as thin dark curves."""
    age = max(0.0, random.normal(0.1, 0.4))
    if age == 0:
        return
    size, unit = face.shape[:2], face.shape[1] / 100
    lines = [(129, 203, 206, 216, 212), (358, 423, 426, 436, 432)]
    lines += [(110, 24, 23, 22, 26), (339, 254, 253, 252, 256)]
    lines += [(54, 68, 104, 69, 108, 151, 337, 299, 333, 298, 284), (103, 67, 109, 10, 338, 297, 332)]
    for line in lines:
        points = marks[list(line)] + random.normal(0, 0.8 * unit, 2)
        there = np.concatenate((points, points[::-1] + np.array([0, random.uniform(0.8, 1.6) * unit])))
        mask = soft_polygon(there, size, random.uniform(0.4, 1.2) * unit)
        face *= np.exp(-min(age, 1.2) * random.uniform(0.1, 0.6) * mask[..., None] * np.array([0.8, 1, 1]))


def _spots(random: np.random.Generator, face: np.ndarray) -> None:
    """Freckles, moles and blemishes."""
    size, unit = face.shape[:2], face.shape[1] / 100
    count = int(random.integers(100, 500)) if random.random() < 0.2 else int(random.integers(0, 12))
    centres = random.uniform(0, 1, (count, 2)) * np.array(size[::-1])
    small = random.uniform(0.25, 0.7, count) * unit
    freckles = bumps(size, centres, small, random.uniform(0.1, 0.6, count))
    face *= np.exp(-freckles[..., None] * np.array([0.5, 0.9, 1.1]) * random.uniform(0.4, 1.0))
    moles = int(random.integers(0, 4))
    centres = random.uniform(0.1, 0.9, (moles, 2)) * np.array(size[::-1])
    dark = bumps(size, centres, random.uniform(0.3, 1.0, moles) * unit, random.uniform(0.5, 1.5, moles))
    face *= np.exp(-dark[..., None] * np.array([0.8, 1.1, 1.2]))


def _lips(
    random: np.random.Generator, face: np.ndarray, marks: np.ndarray, tone: np.ndarray, hair: np.ndarray
) -> None:
    size, unit = face.shape[:2], face.shape[1] / 100
    colour = tone * np.array(
        [random.uniform(0.6, 1.05), random.uniform(0.25, 0.75), random.uniform(0.28, 0.8)]
    )
    if random.random() < 0.15:  # lipstick
        colour = random.uniform(0.05, 0.5) * np.array(
            [1.0, random.uniform(0.05, 0.4), random.uniform(0.1, 0.5)]
        )
    mask = soft_polygon(marks[list(LIPS)], size, random.uniform(0.4, 1.4) * unit, random.uniform(0.97, 1.06))
    grain = 1 + 0.12 * fractal_noise(random, size, 30, 60)
    face += (random.uniform(0.4, 0.95) * mask)[..., None] * (colour * grain - face)


def _eye_lines(
    random: np.random.Generator, face: np.ndarray, marks: np.ndarray, tone: np.ndarray, hair: np.ndarray
) -> None:
    """Lashes and eye liner around the openings; the lids are redder there."""
    size, unit = face.shape[:2], face.shape[1] / 100
    dark, wide, blur = random.uniform(0.5, 0.97), random.uniform(1.08, 1.22), random.uniform(0.3, 0.8) * unit
    for eye in (RIGHT_EYE, LEFT_EYE):
        _over(face, dark * soft_polygon(marks[list(eye)], size, blur, wide), np.full(3, 0.012))


def _brows(
    random: np.random.Generator, face: np.ndarray, marks: np.ndarray, tone: np.ndarray, hair: np.ndarray
) -> None:
    size, unit = face.shape[:2], face.shape[1] / 100
    colour, opacity = hair * random.uniform(0.4, 0.9), random.uniform(0.25, 0.95)
    grow, lift = random.uniform(0.8, 1.25), random.normal(0, 0.8) * unit
    blur = random.uniform(0.5, 1.3) * unit
    hairs = np.clip(0.8 + 0.35 * fractal_noise(random, size, 40, 80)[..., 0], 0.1, 1)
    for brow in (RIGHT_BROW, LEFT_BROW):
        mask = soft_polygon(marks[list(brow)], size, blur, grow, (0, lift))
        _over(face, opacity * mask * hairs, colour)


def _beard(random: np.random.Generator, texture: np.ndarray, surface: HeadSurface, hair: np.ndarray) -> None:
    kind = random.random()
    if kind > 0.35:
        return
    strength = random.uniform(0.08, 0.35) if kind < 0.2 else random.uniform(0.5, 0.9)
    x, y, z = np.moveaxis(surface.points, -1, 0)
    mouth, nose = 0.671, 0.692
    upper = step(nose, nose - 0.006, y) * step(0.030, 0.022, np.abs(x))
    cheek = random.uniform(0.655, 0.685)
    jaw = step(cheek + 0.35 * np.abs(x) + 0.006, cheek + 0.35 * np.abs(x) - 0.006, y)
    jaw *= step(0.055, 0.075, z) * step(0.612, 0.628, y - 0.2 * (z - 0.1))
    style = random.random()
    if style < 0.25:
        jaw = jaw * step(0.032, 0.024, np.abs(x))
    mask = np.maximum(jaw, upper * step(mouth - 0.03, mouth - 0.02, y)) if style < 0.85 else upper
    window = face_window(surface.side)
    marks = surface.landmarks - np.array([window.left, window.top])
    lips = soft_polygon(marks[list(LIPS)], window.size, 0.8, 1.08)
    window.of(mask)[...] *= 1 - lips
    hairs = np.clip(0.75 + 0.3 * fractal_noise(random, mask.shape, 128, 256)[..., 0], 0.1, 1)
    _over(texture, mask * (surface.region == 0) * strength * hairs, hair * random.uniform(0.5, 1.0))


def paint_mouth(random: np.random.Generator, texture: np.ndarray, surface: HeadSurface) -> None:
    """Teeth with dark gaps, tongue, gums and the skin inside the cheeks."""
    flesh = np.array([0.30, 0.075, 0.07]) * random.uniform(0.5, 1.2)
    texture[surface.cavity] = flesh * random.uniform(0.6, 1.0)
    white = random.uniform(0.55, 0.9) * np.array([1.0, random.uniform(0.88, 0.98), random.uniform(0.7, 0.95)])
    columns = np.broadcast_to(np.arange(surface.side, dtype=np.float32), texture.shape[:2])
    gaps = 1 - random.uniform(0.1, 0.5) * np.abs(np.cos(columns * np.pi / (surface.side * 0.0176))) ** 12
    for region, brightness in ((UPPER_TEETH, 1.0), (LOWER_TEETH, 0.85)):
        mask = (surface.region == region) & ~surface.cavity
        texture[mask] = brightness * white * gaps[mask][:, None]
    tongue = surface.region == TONGUE
    noise = fractal_noise(random, texture.shape[:2], 64, 128)[tongue]
    texture[tongue] = flesh * random.uniform(1.0, 1.6) * np.exp(0.08 * noise)
