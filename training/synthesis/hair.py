"""Hair and caps: how far the scalp stands out, and what it looks like. Guidance meshes stay bald."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .colour import to_linear
from .fields import fractal_noise, sample, step
from .surface import HeadSurface

CROWN = np.array([0.0, 0.765, 0.045])  # metres, the middle of the skull; strands run from above it
COLOURS = to_linear(  # sRGB
    np.array(
        [
            [22, 18, 18],
            [44, 30, 24],
            [78, 52, 36],
            [120, 82, 52],
            [168, 128, 84],
            [208, 178, 128],
            [140, 66, 34],
            [150, 148, 146],
            [222, 220, 216],
        ],
        np.float32,
    )
    / 255
)
SHARE = (0.22, 0.2, 0.17, 0.1, 0.08, 0.07, 0.05, 0.07, 0.04)


@dataclass(frozen=True)
class HairStyle:
    """Lengths in metres. A cap is a hair style of cloth."""

    colour: np.ndarray  # (3,) linear
    cover: float  # 0 bald .. 1
    front: float  # height of the hairline over the forehead
    back: float  # z of the hairline before the ear
    nape: float  # height of the lower edge at the back
    softness: float  # width of the edge
    thickness: float
    volume: float  # added at the sides and the back
    waviness: float  # of the hairline
    over_ears: bool
    cap: bool
    curly: bool


def random_style(random: np.random.Generator) -> HairStyle:
    colour = COLOURS[random.choice(len(COLOURS), p=SHARE)] * random.uniform(0.6, 1.5)
    if random.random() < 0.04:
        colour = random.uniform(0.02, 0.6, 3)
    cap = random.random() < 0.08
    over_ears = bool(random.random() < (0.3 if cap else 0.45))
    thickness = random.uniform(0.003, 0.012) if cap or not over_ears else random.uniform(0.006, 0.025)
    return HairStyle(
        colour=colour.astype(np.float32),
        cover=0.0 if not cap and random.random() < 0.1 else 1.0,
        front=random.uniform(0.770, 0.803) + (0.008 if random.random() < 0.15 else 0.0),
        back=random.uniform(0.055, 0.085),
        nape=random.uniform(0.60, 0.66),
        softness=0.003 if cap else random.uniform(0.005, 0.014),
        thickness=thickness,
        volume=random.uniform(0.0, 0.03) if over_ears else random.uniform(0.0, 0.006),
        waviness=0.0 if cap else random.uniform(0.0, 0.008),
        over_ears=over_ears,
        cap=bool(cap),
        curly=bool(random.random() < 0.3),
    )


def cover(style: HairStyle, points: np.ndarray, waves: np.ndarray) -> np.ndarray:
    """How much hair grows at places (..., 3) of the template, 0..1. `waves` (32,) shape the hairline."""
    x, y, z = np.moveaxis(points, -1, 0)
    turn = (np.arctan2(x, z - CROWN[2]) / (2 * np.pi) + 0.5) * (len(waves) - 1)
    first = turn.astype(np.int64)
    wave = waves[first] + (waves[np.minimum(first + 1, len(waves) - 1)] - waves[first]) * (turn - first)
    front = style.front + style.waviness * wave
    edge = style.softness
    top = step(front - edge / 2, front + edge / 2, y)
    side = step(style.back + edge / 2, style.back - edge / 2, z + 0.004 * wave)
    side = side * step(style.nape - edge / 2, style.nape + edge, y)
    grown = np.maximum(top, side)
    if not style.over_ears:  # round the ears, and short below them
        ear = np.exp(-((((y - 0.712) / 0.030) ** 2 + ((z - 0.035) / 0.028) ** 2) ** 2))
        grown = grown * (1 - ear * (np.abs(x) > 0.05)) * step(0.66, 0.69, y + (z < 0.03) * 0.05)
    return style.cover * grown


def offsets(
    random: np.random.Generator, style: HairStyle, surface: HeadSurface, waves: np.ndarray
) -> np.ndarray:  # (V, 3) metres, along the normals of the template
    points = surface.template
    grown = cover(style, points, waves) * surface.skin.numpy()
    turn, height = polar(points)
    bumps = fractal_noise(random, (16, 32), 3, 8)
    bumps = sample(bumps, turn * 32, height * 16)[..., 0]
    lower = np.clip((0.80 - points[:, 1]) / 0.10, 0, 1) * (points[:, 2] < 0.10)
    amount = style.thickness * np.clip(1 + 0.35 * bumps, 0.3, 2) + style.volume * lower
    moved = (grown * amount)[:, None] * _outwards(surface)
    if style.over_ears:  # ears lie flat below the hair
        x, y, _ = points.T
        ear = step(0.068, 0.074, np.abs(x)) * step(0.66, 0.68, y) * grown
        moved[:, 0] -= 0.8 * ear * np.sign(x) * np.maximum(np.abs(x) - 0.068, 0)
    return moved


def _outwards(surface: HeadSurface) -> np.ndarray:  # (V, 3) unit
    """Away from the skull; smooth where normals are not, round the ears."""
    away = (surface.template - CROWN) * np.array([1.0, 0.25, 1.0])
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    mixed = away + (0.4 + step(0.76, 0.80, surface.template[:, 1]))[:, None] * surface.normals.numpy()
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def polar(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angle around the crown and away from it, both 0..1: strands run along the second."""
    x, y, z = np.moveaxis(points - CROWN, -1, 0)
    return np.arctan2(x, z) / (2 * np.pi) + 0.5, np.arctan2(np.hypot(x, z), y) / np.pi


def paint_hair(
    random: np.random.Generator,
    style: HairStyle,
    surface: HeadSurface,
    texture: np.ndarray,  # (S, S, 3), painted on
    waves: np.ndarray,
    patch: np.ndarray | None,  # (h, w, 3) linear, of a photo of something
) -> np.ndarray:  # (S, S) how much of each texel is hair
    points = surface.points
    grown = cover(style, points, waves) * (surface.region == 0) * ~surface.cavity
    chosen = grown > 0.01
    if not chosen.any():
        return grown
    turn, height = polar(points[chosen])
    if style.cap:
        colours = cloth(random, turn, height, style.colour, patch)
    else:
        colours = strands(random, turn, height, style)
        if patch is not None:
            tone = sample(patch, turn * patch.shape[1] * 2, height * patch.shape[0]).mean(-1, keepdims=True)
            colours *= np.clip(tone / max(float(tone.mean()), 1e-3), 0.3, 2) ** 0.7
        grown[chosen] *= np.clip(0.75 + 0.6 * edge_noise(random, turn, height) + grown[chosen] ** 3, 0, 1)
    mix = np.clip(grown[chosen], 0, 1)[:, None]
    texture[chosen] += mix * (np.clip(colours, 0.002, 0.9) - texture[chosen])
    return grown


def strands(
    random: np.random.Generator, turn: np.ndarray, height: np.ndarray, style: HairStyle
) -> np.ndarray:  # (N, 3)
    """Colour of hair at polar places: streaks along it, locks, shine; isotropic where curly."""
    fine = fractal_noise(random, (64, 256), 32, 64) if style.curly else _streaks(random, 512, 12)
    locks = _streaks(random, 48, 6)
    bent = turn + random.uniform(0.0, 0.03) * np.sin(height * random.uniform(10, 40) + turn * 30)

    def at(noise: np.ndarray) -> np.ndarray:
        return sample(noise, bent * noise.shape[1], height * noise.shape[0])[..., 0]

    shade = random.uniform(0.15, 0.4) * at(fine) + random.uniform(0.1, 0.35) * at(locks)
    return style.colour * np.exp(shade)[:, None]


def _streaks(random: np.random.Generator, across: int, along: int) -> np.ndarray:
    noise = random.standard_normal((along, across, 1)).astype(np.float32)
    return noise + 0.5 * np.roll(noise, 1, 1)


def edge_noise(random: np.random.Generator, turn: np.ndarray, height: np.ndarray) -> np.ndarray:
    noise = _streaks(random, 384, 8)
    return sample(noise, turn * 384, height * 8)[..., 0] * 0.5


def cloth(
    random: np.random.Generator,
    across: np.ndarray,
    along: np.ndarray,
    colour: np.ndarray,
    patch: np.ndarray | None,
) -> np.ndarray:  # (N, 3)
    """Woven, knitted or printed: stripes, checks, a patch of a picture, noise."""
    kind = random.random()
    if random.random() < 0.8:
        colour = random.uniform(0.01, 0.6) * random.uniform(0.4, 1.0, 3)
    colours = np.ones((*across.shape, 3), np.float32) * colour
    if kind < 0.3 and patch is not None:
        colours = sample(patch, across * patch.shape[1] * 2, along * patch.shape[0] * 2) * random.uniform(
            0.4, 1
        )
    elif kind < 0.5:
        other = random.uniform(0.01, 0.7, 3)
        stripe = np.sin(random.uniform(20, 160) * (along if random.random() < 0.6 else across))
        colours += (stripe > random.uniform(-0.5, 0.8))[..., None] * (other - colours)
    noise = fractal_noise(random, (64, 64), 4, 64, persistence=0.8)
    colours = colours * np.exp(random.uniform(0.03, 0.2) * sample(noise, across * 128, along * 64))
    return np.clip(colours, 0.003, 0.85)
