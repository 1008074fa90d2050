"""Lays the islands of the head's texture out anew: the face upright and large, the rest on shelves below."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

MARGIN = 0.012


def packed(uvs: np.ndarray, faces_uv: np.ndarray, enlarged: np.ndarray) -> np.ndarray:  # (U, 2) in 0..1
    """New texture coordinates. The largest island is turned a quarter so that the face stands upright.

    `enlarged` (U,) multiplies the size of each coordinate's island, relative to the skin's own scale.
    """
    uvs = uvs.copy()
    edges = np.concatenate([faces_uv[:, [0, 1]], faces_uv[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(len(uvs), len(uvs)))
    _, island = connected_components(graph, directed=False)
    used = np.unique(island[faces_uv])
    members = {k: np.flatnonzero(island == k) for k in used}
    sizes = {k: np.ptp(uvs[m], axis=0) * enlarged[m[0]] for k, m in members.items()}
    face = max(used, key=lambda k: np.prod(sizes[k]))
    uvs[members[face]] = np.c_[uvs[members[face], 1], -uvs[members[face], 0]]
    sizes[face] = sizes[face][::-1]
    order = [face] + sorted((k for k in used if k != face), key=lambda k: -sizes[k][1])
    width = sizes[face][0] + 2 * MARGIN
    corners, height = _shelves([sizes[k] for k in order], width)
    for k, corner in zip(order, corners, strict=True):
        low = uvs[members[k]].min(0)
        uvs[members[k]] = (uvs[members[k]] - low) * enlarged[members[k][0]] + corner
    uvs /= max(width, height)
    uvs[:, 1] += 1 - uvs[faces_uv.ravel(), 1].max() - MARGIN
    return uvs


def _shelves(sizes, width: float):
    """Lower-left corners of boxes set on shelves from the top (y falls below zero), and the total height."""
    corners, x, top, depth = [], MARGIN, 0.0, 0.0
    for w, h in sizes:
        if x + w + MARGIN > width + 1e-9:
            x, top, depth = MARGIN, top - depth - MARGIN, 0.0
        corners.append(np.array([x, top - h]))
        x += w + MARGIN
        depth = max(depth, h)
    return corners, depth - top + 2 * MARGIN
