"""Procedural eyeballs and a smaller tongue, both linear in the base mesh."""

from __future__ import annotations

import numpy as np

from .surface import Surface, add_skin

EYE_SEGMENTS = 20
# Angles of the eyeball's rings from its axis, degrees: the pupil's rim and the limbus are rings of their own.
PUPIL, LIMBUS = 7.5, 23.5
EYE_RINGS = (PUPIL, 13.0, 18.5, LIMBUS, 29.0, 36.0, 45.0, 56.0, 70.0, 90.0)
CORNEA_BULGE = 0.02  # of the radius, at the pole

TONGUE_SCALE = 0.86  # MakeHuman's tongue fills the mouth; shrunk towards its root it lies behind the teeth
TONGUE_ROOT = 0.25  # share of its vertices, the rearmost, whose mean is the centre of shrinking

Grid = tuple[tuple[float, float], tuple[float, float]]  # corner and size of a texture island


def sphere_of(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the least-squares sphere through points (n, 3)."""
    system = np.c_[2 * points, np.ones(len(points))]
    solution = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0]
    return solution[:3], float(np.sqrt(solution[3] + (solution[:3] ** 2).sum()))


def affine_rows(targets: np.ndarray, sources: np.ndarray, numbers: np.ndarray) -> list[dict[int, float]]:
    """Points as sums of base vertices: exact when the sources move by an affine map, so eyes stay round."""
    weights = np.c_[targets, np.ones(len(targets))] @ np.linalg.pinv(np.c_[sources, np.ones(len(sources))])
    return [dict(zip(numbers.tolist(), row.tolist(), strict=True)) for row in weights]


def add_eye(
    surface: Surface,
    numbers: np.ndarray,  # base vertices of MakeHuman's eyeball
    positions: np.ndarray,  # (n, 3) of the base mesh
    side: int,  # +1 left, -1 right
    region: int,
    island: Grid,
) -> dict[str, int]:
    """A smooth eyeball looking along +z, open at the back; returns how many polygons are pupil and iris."""
    sources = positions[numbers]
    centre, radius = sphere_of(sources)
    angles = np.radians(EYE_RINGS)
    turns = np.arange(EYE_SEGMENTS) * 2 * np.pi / EYE_SEGMENTS
    directions = [np.array([0.0, 0.0, 1.0])]
    directions += [
        np.array([side * np.sin(a) * np.cos(t), np.sin(a) * np.sin(t), np.cos(a)])
        for a in angles
        for t in turns
    ]
    directions = np.array(directions)
    lift = np.clip(1 - np.arccos(np.clip(directions[:, 2], -1, 1)) / np.radians(LIMBUS), 0, 1)
    points = centre + directions * radius * (1 + CORNEA_BULGE * lift * (2 - lift))[:, None]
    first = len(surface.rows)
    for row in affine_rows(points, sources, numbers):
        surface.add_row(row)
    (u0, v0), (width, height) = island
    spread = np.arccos(np.clip(directions[:, 2], -1, 1)) / angles[-1] / 2
    flat = directions[:, :2] / np.maximum(np.linalg.norm(directions[:, :2], axis=1, keepdims=True), 1e-9)
    first_uv = len(surface.uvs)
    for point, r in zip(flat, spread, strict=True):
        surface.add_uv((u0 + width * (0.5 + r * point[0]), v0 + height * (0.5 + r * point[1])))

    def add(corners):
        corners = corners if side > 0 else corners[::-1]
        surface.polygons.append(([first + c for c in corners], [first_uv + c for c in corners], region))

    for s in range(EYE_SEGMENTS):
        add([0, 1 + s, 1 + (s + 1) % EYE_SEGMENTS])
    for ring in range(len(angles) - 1):
        inner, outer = 1 + ring * EYE_SEGMENTS, 1 + (ring + 1) * EYE_SEGMENTS
        for s in range(EYE_SEGMENTS):
            n = (s + 1) % EYE_SEGMENTS
            add([inner + s, outer + s, outer + n, inner + n])
    return {"pupil": EYE_SEGMENTS, "iris": EYE_RINGS.index(LIMBUS) * EYE_SEGMENTS}


def add_tongue(surface: Surface, polygons, uvs: np.ndarray, positions: np.ndarray, region: int) -> None:
    """The tongue, shrunk towards its root."""
    first = len(surface.rows)
    add_skin(surface, polygons, uvs, positions, region)
    numbers = np.array(sorted(v for row in surface.rows[first:] for v in row))
    depth = positions[numbers, 2] + positions[numbers, 1]
    root = numbers[depth <= np.quantile(depth, TONGUE_ROOT)].tolist()
    for i in range(first, len(surface.rows)):
        row = {v: TONGUE_SCALE * w for v, w in surface.rows[i].items()}
        for v in root:
            row[v] = row.get(v, 0.0) + (1 - TONGUE_SCALE) / len(root)
        surface.rows[i] = row
