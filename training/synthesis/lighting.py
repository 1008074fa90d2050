"""Light and the pictures it makes: two lamps and a sky, skin with highlights, in linear light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .fields import step


@dataclass(frozen=True)
class Lights:
    """Fixed in the world; directions in camera space."""

    sky: np.ndarray  # (3,) ambient from above
    ground: np.ndarray  # (3,) ambient from below
    directions: np.ndarray  # (2, 3) unit, towards the lamps
    colours: np.ndarray  # (2, 3)

    def changed(self, by: np.ndarray) -> Lights:
        """Brighter or darker: logarithms (3,) for both lamps and the sky."""
        sky = np.exp(by[2])
        colours = self.colours * np.exp(by[:2, None])
        return replace(self, colours=colours, sky=sky * self.sky, ground=sky * self.ground)


def random_lights(random: np.random.Generator) -> Lights:
    directions = random.normal(size=(2, 3)) * np.array([1.0, 0.6, 0.4]) + np.array([0.0, 0.45, 0.7])
    directions[:, 2] = np.maximum(directions[:, 2], -0.3)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    warmth = np.exp(random.normal(0, 0.12, (2, 1)) * np.array([1.0, 0.0, -1.2]))
    strength = np.array([[random.uniform(0.2, 1.3)], [random.uniform(0.0, 0.6)]])
    strength *= 0.4 if random.random() < 0.6 else 1.0  # most people are pictured in soft light
    sky = random.uniform(0.3, 0.9) * np.exp(random.normal(0, 0.06, 3))
    return Lights(sky, sky * random.uniform(0.4, 1.0), directions, strength * warmth)


@dataclass(frozen=True)
class Points:
    """Visible surface points, P of them."""

    normal: np.ndarray  # (P, 3) unit, camera space
    albedo: np.ndarray  # (P, 3) linear
    openness: np.ndarray  # (P,) share of the light that reaches the point
    gloss: np.ndarray  # (P,)
    shininess: np.ndarray  # (P,)
    soft: np.ndarray  # (P,) 0..1 how much light goes round the edge of the shade, as in skin


def shade(points: Points, lights: Lights) -> np.ndarray:  # (P, 3) linear
    """Lambert with light bleeding into the shade, redder there, and Blinn's highlights (1977)."""
    up = (0.5 + 0.5 * points.normal[:, 1])[:, None].astype(np.float32)
    light = (lights.ground * (1 - up) + lights.sky * up).astype(np.float32)
    shine = np.zeros_like(light)
    wrap = points.soft[:, None] * np.array([0.30, 0.15, 0.10], np.float32)
    for direction, colour in zip(lights.directions, lights.colours.astype(np.float32), strict=True):
        cosine = (points.normal @ direction.astype(np.float32))[:, None]
        light += colour * np.clip((cosine + wrap) / (1 + wrap), 0, None)
        half = direction + np.array([0.0, 0.0, 1.0])
        half = (half / np.linalg.norm(half)).astype(np.float32)
        facing = np.clip(points.normal @ half, 0, None) ** points.shininess
        shine += colour * (facing * points.gloss * step(-0.1, 0.2, cosine[:, 0]))[:, None]
    return points.openness[:, None] * (points.albedo * light + shine)
