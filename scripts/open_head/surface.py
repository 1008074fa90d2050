"""Builds the head's surface as a linear function of the base mesh.

Every vertex of the head is a fixed weighted sum of base vertices, so that one sparse matrix carries people,
expressions, skin weights and the neutral head alike. That holds for vertices on the neck's cut (on an edge of
the base mesh) as for those of the resampled eyes and teeth.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

# The neck is cut by the bowl y = CUT_HEIGHT - CUT_SLOPE z + CUT_BEND x^2: at the collar bones in front,
# higher at the back, and rising at the sides so that the edge stays on the neck's root and off the shoulders.
CUT_HEIGHT, CUT_SLOPE, CUT_BEND = 0.566, 0.18, 1.6  # metres, none, 1 / metre
SNAP = (
    0.3  # a vertex nearer to the plane than this share of its edge moves onto it, so that no slivers appear
)


@dataclass
class Surface:
    """A growing mesh of polygons; rows are sums of base vertices, corners carry texture coordinates."""

    num_base: int
    rows: list[dict[int, float]] = field(default_factory=list)
    uvs: list[tuple[float, float]] = field(default_factory=list)
    polygons: list[tuple[list[int], list[int], int]] = field(
        default_factory=list
    )  # corners, uv corners, region

    def add_row(self, row: dict[int, float]) -> int:
        self.rows.append(row)
        return len(self.rows) - 1

    def add_uv(self, uv) -> int:
        self.uvs.append((float(uv[0]), float(uv[1])))
        return len(self.uvs) - 1

    def matrix(self) -> csr_matrix:  # (V, num_base)
        """The map from base vertices to the head's vertices."""
        entries = [(i, j, w) for i, row in enumerate(self.rows) for j, w in row.items() if w]
        rows, columns, weights = zip(*entries, strict=True)
        return csr_matrix((weights, (rows, columns)), shape=(len(self.rows), self.num_base))


def height_above_cut(points: np.ndarray) -> np.ndarray:
    """Signed distance-like height of points (..., 3) above the neck's cut."""
    return points[..., 1] - CUT_HEIGHT + CUT_SLOPE * points[..., 2] - CUT_BEND * points[..., 0] ** 2


def add_skin(surface: Surface, polygons, uvs: np.ndarray, positions: np.ndarray, region: int) -> None:
    """Adds the body's polygons above the cut, those across it clipped to it."""
    height = height_above_cut(positions)
    kept = [(corners, tex) for corners, tex in polygons if max(height[corners]) > 0]
    snapped = _snapped(kept, height)
    rows: dict[tuple, int] = {}
    tex_rows: dict[tuple, int] = {}

    def row(key):
        if key not in rows:
            rows[key] = surface.add_row(dict(key))
        return rows[key]

    def tex_row(key):
        if key not in tex_rows:
            tex_rows[key] = surface.add_uv(sum(w * uvs[i] for i, w in key))
        return tex_rows[key]

    for corners, tex in kept:
        loop = _clipped(corners, tex, height, snapped)
        if len(loop) >= 3:
            surface.polygons.append(([row(k) for k, _ in loop], [tex_row(k) for _, k in loop], region))


def _snapped(kept, height) -> dict[int, tuple[tuple[int, float], ...]]:
    """Vertices close to the cut, as the point of their steepest crossing edge that lies on it."""
    best: dict[int, tuple[float, int]] = {}
    for corners, _ in kept:
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
            if height[a] * height[b] < 0:
                for v, other in ((a, b), (b, a)):
                    share = height[v] / (height[v] - height[other])
                    if share < SNAP and (v not in best or share < best[v][0]):
                        best[v] = (share, other)
    return {v: ((v, 1 - share), (other, share)) for v, (share, other) in best.items()}


def _clipped(corners, tex, height, snapped):
    """The part of a polygon above the cut: keys ((base vertex, weight), ...) and ((base uv, weight), ...)."""
    loop = []
    level = [0.0 if v in snapped else height[v] for v in corners]
    ring = list(range(len(corners)))
    for i, j in zip(ring, ring[1:] + ring[:1], strict=True):
        if level[i] >= 0:
            loop.append(_corner_key(i, corners, tex, snapped))
        if level[i] * level[j] < 0:
            (p, q) = (i, j) if corners[i] < corners[j] else (j, i)
            share = height[corners[p]] / (height[corners[p]] - height[corners[q]])
            loop.append(
                (
                    ((corners[p], 1 - share), (corners[q], share)),
                    ((tex[p], 1 - share), (tex[q], share)),
                )
            )
    return loop if any(x > 0 for x in level) else []


def _corner_key(i, corners, tex, snapped):
    vertex = corners[i]
    if vertex not in snapped:
        return ((vertex, 1.0),), ((tex[i], 1.0),)
    (_, stay), (other, share) = snapped[vertex]
    if other in corners:
        return snapped[vertex], ((tex[i], stay), (tex[corners.index(other)], share))
    return snapped[vertex], ((tex[i], 1.0),)


def triangulated(surface: Surface, positions: np.ndarray, labels: np.ndarray):
    """Triangles (T, 3), their uv corners (T, 3), regions (T,) and polygons' labels (T,).

    Quads are split along the shorter diagonal.
    """
    faces, faces_uv, regions, kept = [], [], [], []
    for (corners, tex, region), label in zip(surface.polygons, labels, strict=True):
        for a, b, c in _split(positions[corners]):
            if len({corners[a], corners[b], corners[c]}) == 3:
                faces.append([corners[a], corners[b], corners[c]])
                faces_uv.append([tex[a], tex[b], tex[c]])
                regions.append(region)
                kept.append(label)
    return np.array(faces), np.array(faces_uv), np.array(regions), np.array(kept)


def _split(points: np.ndarray):
    count = len(points)
    if count == 4:
        first, second = np.linalg.norm(points[2] - points[0]), np.linalg.norm(points[3] - points[1])
        return ((0, 1, 2), (0, 2, 3)) if first <= second + 1e-9 else ((0, 1, 3), (1, 2, 3))
    return [(0, i, i + 1) for i in range(1, count - 1)]


def mirrored_vertices(positions: np.ndarray, labels: np.ndarray, swapped: dict[int, int]) -> np.ndarray:
    """The vertex at the mirror image (x -> -x) of each vertex, within its own or the swapped part."""
    from scipy.spatial import cKDTree

    mirror = np.zeros(len(positions), int)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        theirs = np.flatnonzero(labels == swapped.get(label, label))
        distance, nearest = cKDTree(positions[theirs]).query(positions[mine] * [-1, 1, 1])
        if distance.max() > 1e-4:
            raise ValueError(
                f"part {label} is not symmetric: a mirror image is {distance.max() * 1e3:.2f} mm away"
            )
        mirror[mine] = theirs[nearest]
    return mirror
