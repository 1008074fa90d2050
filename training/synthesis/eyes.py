"""Eyeballs: iris with fibres and a dark rim, pupil, white with a warm edge."""

from __future__ import annotations

import numpy as np

from .fields import step
from .surface import EyeTexels

IRIS_COLOURS = np.array(  # linear light
    [
        [0.050, 0.022, 0.010],
        [0.100, 0.045, 0.016],
        [0.020, 0.012, 0.009],
        [0.070, 0.110, 0.170],
        [0.090, 0.130, 0.140],
        [0.070, 0.090, 0.030],
        [0.160, 0.180, 0.190],
    ],
    np.float32,
)
IRIS_SHARE = (0.35, 0.2, 0.2, 0.08, 0.07, 0.06, 0.04)


def paint_eyes(random: np.random.Generator, texture: np.ndarray, eyes: tuple[EyeTexels, EyeTexels]) -> None:
    """Paint both eyes into a texture (S, S, 3) of linear albedo."""
    colour = IRIS_COLOURS[random.choice(len(IRIS_COLOURS), p=IRIS_SHARE)] * random.uniform(0.6, 1.5)
    second = colour * random.uniform(0.5, 1.8, 3)
    size = random.uniform(0.85, 1.05)  # of the iris
    pupil = random.uniform(0.30, 0.55)
    rim = random.uniform(0.2, 0.9)
    white = random.uniform(0.30, 0.60) * np.array([1.0, random.uniform(0.92, 1.0), random.uniform(0.86, 1.0)])
    fibres = random.standard_normal(128).astype(np.float32)
    flat = texture.reshape(-1, 3)
    for eye in eyes:
        r = eye.radius / size
        turn = (eye.angle / (2 * np.pi) % 1) * len(fibres)
        first = turn.astype(np.int64)
        share = turn - first
        fibre = fibres[first % 128] * (1 - share) + fibres[(first + 1) % 128] * share
        mix = np.clip((r - pupil) / (1 - pupil), 0, 1)[:, None]
        iris = (second * (1 - mix) + colour * mix) * (1 + 0.25 * fibre[:, None])
        iris = iris * (1 - rim * step(0.75, 1.0, r))[:, None]
        ball = white * (1 - 0.25 * step(1.4, 3.0, r)[:, None] * np.array([0.2, 1.0, 1.0]))
        edge = step(0.92, 1.06, r)[:, None]
        colours = iris * (1 - edge) + ball * edge
        black = 1 - step(pupil - 0.08, pupil + 0.08, r)[:, None]
        flat[eye.index] = np.clip(colours * (1 - black) + 0.004 * black, 0.003, 0.9)
