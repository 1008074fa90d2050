"""Rows of teeth from MakeHuman's plain strips (4 x 17 vertices), linear in the strip's vertices.

The strip is resampled by splines along the arch and down the crown; hollows between the teeth come from
leaning the front towards the strip's own inner row, so that no offset has to be added
and jaws may turn the whole row.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from .surface import Surface

ROWS, COLUMNS = 4, 17  # gum, neck of the tooth, edge, inner side; along the arch
# Widths of the teeth from the middle outwards, millimetres (anatomical means); the strip ends at the molars.
UPPER_WIDTHS = (8.6, 6.6, 7.6, 7.1, 6.8)
LOWER_WIDTHS = (5.3, 5.9, 6.9, 7.1, 7.3)
WITHIN_TOOTH = (0.0, 0.13, 0.87)  # columns of one tooth, shares of its width
HOLLOW = {0.0: 0.07, 0.13: 0.0, 0.87: 0.0}  # lean inwards at these columns
SHORTER = {0.0: 0.05, 0.13: 0.0, 0.87: 0.0}  # rounded corners of the edge, share of the height
MOLARS = 3  # plain columns behind the last tooth
CROWN = 0.42  # height share where the gum ends
# Height shares down the front (0 gum, 1 edge) and lean inwards of each row; rows near the edge keep it sharp.
PROFILE = ((0.0, 0.10), (CROWN, 0.02), (0.55, 0.0), (0.95, 0.0), (1.0, 0.07), (0.9, 0.55))
SETBACK = 0.12  # lean of all, so that the strip's ends stay inside the cheeks
GUM_ROWS = 1  # rows of polygons above the crown
GUM_COLUMNS = 1  # columns of polygons behind the last molar


def add_teeth(
    surface: Surface,
    polygons,
    positions: np.ndarray,  # (n, 3) of the base mesh
    widths: tuple[float, ...],
    region: int,
    island: tuple[tuple[float, float], tuple[float, float]],  # corner and size on the texture
) -> np.ndarray:
    """Adds one row of teeth; returns which of its polygons are gum (P,) bool."""
    grid = strip_grid(polygons, positions)  # (4, 17) base vertices
    edge = positions[grid[2]]
    arc = np.r_[0, np.cumsum(np.linalg.norm(np.diff(edge, axis=0), axis=1))]
    arc -= arc[COLUMNS // 2]
    places, hollow, shorter = _columns(widths, arc[-1])
    along = CubicSpline(arc, np.eye(COLUMNS))(places)  # (c, 17)
    (u0, v0), (width, height) = island
    first, first_uv, count = len(surface.rows), len(surface.uvs), len(places)
    for r, (down, lean) in enumerate(PROFILE):
        for c in range(count):
            share = down * (1 - shorter[c]) if down > CROWN else down
            inwards = min(lean + SETBACK + hollow[c] * (down > CROWN / 2), 1.0)
            weights = np.zeros((ROWS, COLUMNS))
            for row, weight in enumerate(_parabola(share)):
                weights[row] = (1 - inwards) * weight * along[c]
            weights[3] += inwards * along[c]
            surface.add_row(dict(zip(grid.ravel().tolist(), weights.ravel().tolist(), strict=True)))
            surface.add_uv((u0 + width * c / (count - 1), v0 + height * (1 - r / (len(PROFILE) - 1))))
    gum = []
    for r in range(len(PROFILE) - 1):
        for c in range(count - 1):
            corners = [r * count + c, (r + 1) * count + c, (r + 1) * count + c + 1, r * count + c + 1]
            if region_is_lower(positions, grid):
                corners = corners[::-1]
            surface.polygons.append(([first + k for k in corners], [first_uv + k for k in corners], region))
            gum.append(r < GUM_ROWS or min(c, count - 2 - c) < GUM_COLUMNS)
    return np.array(gum)


def region_is_lower(positions: np.ndarray, grid: np.ndarray) -> bool:
    """Whether the teeth point up."""
    return bool(positions[grid[2], 1].mean() > positions[grid[0], 1].mean())


def strip_grid(polygons, positions: np.ndarray) -> np.ndarray:  # (4, 17) base vertices
    """The strip's vertices by row (gum to inner side) and column (from -x to +x), found from its polygons."""
    quads = [corners for corners, _ in polygons]
    numbers, counts = np.unique([v for q in quads for v in q], return_counts=True)
    ends = numbers[counts == 1]
    ends = ends[np.lexsort((np.abs(positions[ends, 0]), positions[ends, 0] > 0))]
    left = ends[positions[ends, 0] < 0]
    outer, inner = left[np.argsort(-np.abs(positions[left, 0]))]
    from_gum, from_inner = _steps(quads, int(outer)), _steps(quads, int(inner))
    grid = np.zeros((ROWS, COLUMNS), int)
    for v in numbers.tolist():
        row = (from_gum[v] - from_inner[v] + ROWS - 1) // 2
        grid[row, from_gum[v] - row] = v
    return grid


def _steps(quads, start: int) -> dict[int, int]:
    """Number of edges from one vertex to every other."""
    neighbours: dict[int, set[int]] = {}
    for quad in quads:
        for a, b in zip(quad, quad[1:] + quad[:1], strict=True):
            neighbours.setdefault(a, set()).add(b)
            neighbours.setdefault(b, set()).add(a)
    steps, front = {start: 0}, [start]
    while front:
        front = [
            n for v in front for n in neighbours[v] if n not in steps and not steps.update({n: steps[v] + 1})
        ]
    return steps


def _columns(widths: tuple[float, ...], half: float):
    """Places along the arch (metres from the middle), hollow and shortening of every column."""
    scale = 1e-3
    places, hollow, shorter = [], [], []
    start = 0.0
    for width in widths:
        for share in WITHIN_TOOTH:
            places.append(start + share * width * scale)
            hollow.append(HOLLOW[share])
            shorter.append(SHORTER[share])
        start += width * scale
    rest = np.linspace(start, half, MOLARS + 1)
    places += rest.tolist()
    hollow += [HOLLOW[0.0]] + [0.0] * MOLARS
    shorter += [SHORTER[0.0]] + [0.0] * MOLARS

    def both(right, sign):
        return np.r_[sign * np.array(right[:0:-1]), right]

    return both(places, -1), both(hollow, 1), both(shorter, 1)


def _parabola(share: float) -> tuple[float, float, float]:
    """Weights of the rows at heights 0, 1/2 and 1 for a point on the parabola through them."""
    return (2 * (share - 0.5) * (share - 1), 4 * share * (1 - share), 2 * share * (share - 0.5))
