"""Simple solids around the head: bust with cloth, long hair, glasses. Rest pose, head space, metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .hair import HairStyle, cloth, strands
from .surface import HeadSurface

TILE = 128  # texels of a solid's square texture
MOST_SOLIDS = 3  # of a person; their textures stand in a column beside the head's
NECK_SKIN = 0.596  # height above which a bust is bare skin, at least


@dataclass(frozen=True)
class Solid:
    vertices: np.ndarray  # (N, 3)
    faces: np.ndarray  # (T, 3)
    uv: np.ndarray  # (N, 2) 0..1, x right, y down in its texture
    texture: np.ndarray  # (TILE, TILE, 3) linear albedo
    follows: np.ndarray  # (N,) 0 stays with the bust .. 1 moves with the skull
    gloss: float = 0.0


def grid_faces(rows: int, columns: int, closed: bool) -> np.ndarray:  # (T, 3)
    """Two triangles per cell of a grid of vertices; `closed` joins the last column with the first."""
    row, column = np.mgrid[: rows - 1, : columns if closed else columns - 1]
    a, b = row * columns + column, row * columns + (column + 1) % columns
    below, beside = a + columns, b + columns
    faces = np.stack((np.stack((a, below, b), -1), np.stack((b, below, beside), -1)), 2)
    return faces.reshape(-1, 3)


def bust(
    random: np.random.Generator, tone: np.ndarray, patch: np.ndarray | None, centre: np.ndarray
) -> Solid:
    """Shoulders as rings from inside the neck down to the chest, with a collar or a neckline."""
    wide, deep = random.uniform(0.85, 1.15), random.uniform(0.85, 1.15)
    fall = random.uniform(0.0, 0.02)
    rings = np.array(  # height, half width, half depth, z
        [
            [0.612, 0.046, 0.040, 0.020],
            [0.590, 0.066, 0.056, 0.024],
            [0.572 - fall / 4, 0.108, 0.066, 0.024],
            [0.556 - fall, 0.155, 0.078, 0.020],
            [0.530 - fall, 0.190, 0.092, 0.018],
            [0.480, 0.205, 0.105, 0.018],
            [0.380, 0.205, 0.115, 0.020],
            [0.250, 0.205, 0.120, 0.020],
        ]
    )
    if random.random() < 0.25:  # collar
        rings[0] = [0.622 + random.uniform(-0.006, 0.012), 0.060, 0.056, 0.026]
        rings[1, 1:3] = 0.068, 0.062
    columns = 36
    turn = np.arange(columns) / columns * 2 * np.pi
    x = rings[:, 1:2] * wide * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** 0.9
    z = rings[:, 3:] + rings[:, 2:3] * deep * np.cos(turn)
    y = np.broadcast_to(rings[:, :1], x.shape)
    vertices = np.stack((x, y, z), -1).reshape(-1, 3) + centre
    u = np.abs((np.arange(columns) / columns * 2 + 1) % 2 - 1)  # mirrored: no seam at the back
    across, along = np.meshgrid(u, np.linspace(0, 1, len(rings)))
    texture = _cloth_with_neckline(random, tone, patch)
    follows = np.clip((vertices[:, 1] - centre[1] - 0.60) / 0.06, 0, 0.3)
    return Solid(vertices, grid_faces(len(rings), columns, True), _uv(across, along), texture, follows)


def _uv(across: np.ndarray, along: np.ndarray) -> np.ndarray:
    return np.stack((across, along), -1).reshape(-1, 2)


def _tile() -> tuple[np.ndarray, np.ndarray]:
    places = (np.arange(TILE) + 0.5) / TILE
    return np.meshgrid(places, places)


def _cloth_with_neckline(
    random: np.random.Generator, tone: np.ndarray, patch: np.ndarray | None
) -> np.ndarray:
    across, along = _tile()  # across: 1 in front, 0 at the back
    texture = cloth(random, across, along, tone * random.uniform(0.2, 1.2, 3), patch)
    low = random.uniform(0.12, 0.28)
    depth = random.uniform(0.0, 0.45) if random.random() < 0.5 else 0.0
    power = random.choice([1.0, 2.0, 4.0])
    line = low + depth * np.clip((across - 0.72) / 0.28, 0, 1) ** power
    bare = np.clip((line - along) * 40, 0, 1)[..., None]
    border = np.exp(-(((along - line) / 0.02) ** 2))[..., None] * random.uniform(-0.3, 0.6)
    return (texture * (1 - border) * (1 - bare) + tone * bare).astype(np.float32)


def long_hair(random: np.random.Generator, style: HairStyle, centre: np.ndarray) -> Solid:
    """A curtain round the sides and the back of the head that falls to the shoulders or less."""
    rows, columns = 12, 40
    opening = random.uniform(0.75, 1.35)  # radians beside the face that stay free
    bottom = random.uniform(0.48, 0.66)
    along = np.linspace(0, 1, rows)[:, None]
    turn = np.linspace(opening, 2 * np.pi - opening, columns)[None]
    waves = 1 + random.uniform(0, 0.12) * np.sin(turn * random.integers(4, 14) + random.uniform(0, 6))
    spread = random.uniform(-0.01, 0.03)
    thick = style.thickness + style.volume
    half_width = (0.066 + thick) * (1 - 0.35 * (1 - along) ** 3) + spread * along
    half_depth = (0.088 + thick) * (1 - 0.35 * (1 - along) ** 3) + 0.4 * spread * along
    noise = 1 + 0.04 * random.standard_normal((rows, columns))
    x = half_width * np.sin(turn) * waves * noise
    z = 0.035 + half_depth * np.cos(turn) * waves * noise
    y = 0.80 + (bottom + 0.012 * random.standard_normal((1, columns)) - 0.80) * along
    y = np.broadcast_to(y, x.shape)
    vertices = np.stack((x, y, z), -1).reshape(-1, 3) + centre
    follows = np.clip((vertices[:, 1] - centre[1] - 0.55) / 0.12, 0.1, 1)
    across, down = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    u, v = _tile()
    texture = np.clip(strands(random, u.ravel(), v.ravel(), style), 0.002, 0.9).reshape(TILE, TILE, 3)
    texture = texture * (1 - 0.4 * v[..., None] * random.uniform(-0.5, 1))
    return Solid(vertices, grid_faces(rows, columns, False), _uv(across, down), texture, follows, 0.15)


def glasses(random: np.random.Generator, surface: HeadSurface, vertices: np.ndarray) -> Solid:
    """Two rims, a bridge and temples, as thin tubes placed by the landmarks of the person's rest head."""
    marks = surface.head.landmarks.points(
        surface.head.template.new_tensor(vertices)[None], surface.head.faces
    )[0].numpy()
    wide, high = random.uniform(0.022, 0.029), random.uniform(0.014, 0.024)
    thick, square = random.uniform(0.0006, 0.0022), random.uniform(0.45, 1.0)
    turn = np.linspace(0, 2 * np.pi, 33)
    middles = [(marks[33] + marks[133]) / 2, (marks[263] + marks[362]) / 2]
    front = max(middle[2] for middle in middles) + random.uniform(0.012, 0.018)
    curves = []
    for middle in middles:
        x = middle[0] * 1.02 + wide * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** square
        y = middle[1] - 0.003 + high * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** square
        curves.append(np.stack((x, y, front - 8 * (x / 1) ** 2 * 0.4), -1))
    inner = [middles[0][0] * 1.02 + wide, middles[1][0] * 1.02 - wide]
    left, right = sorted(inner)
    bridge = np.linspace(left, right, 7)
    height = (middles[0][1] + middles[1][1]) / 2 + 0.004
    arch = height + 0.003 * np.sin(np.linspace(0, np.pi, 7))
    curves.append(np.stack((bridge, arch, np.full(7, front)), -1))
    for middle, sign in zip(middles, (-1, 1), strict=True):
        edge = middle[0] * 1.02 + sign * wide
        start = np.array([edge, middle[1] + 0.005, front - 3.2 * edge**2])
        end = np.array([sign * 0.080, middle[1] - 0.002, 0.045])
        curves.append(start + np.linspace(0, 1, 9)[:, None] * (end - start))
    parts = [_tube(curve, thick) for curve in curves]
    counts = np.cumsum([0] + [len(points) for points, _ in parts[:-1]])
    faces = np.concatenate([part + first for (_, part), first in zip(parts, counts, strict=True)])
    points = np.concatenate([points for points, _ in parts])
    colour = random.uniform(0.01, 0.05, 3) if random.random() < 0.6 else random.uniform(0.02, 0.6, 3)
    texture = np.full((TILE, TILE, 3), colour, np.float32)
    return Solid(points, faces, np.full((len(points), 2), 0.5), texture, np.ones(len(points)), 0.5)


def _tube(curve: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A four-sided tube round a curve (N, 3)."""
    along = np.gradient(curve, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    one = np.cross(along, np.array([0.3, 0.2, 0.93]))
    one /= np.linalg.norm(one, axis=1, keepdims=True) + 1e-9
    two = np.cross(along, one)
    ring = np.stack((one, two, -one, -two), 1) * radius
    return (curve[:, None] + ring).reshape(-1, 3), grid_faces(len(curve), 4, True)
