"""Takes sharp creases out of sculpted expressions, where the coarse mesh cannot carry them."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, diags

STEPS = 12
RATE = 0.5
KEPT = 0.005  # metres from an opening (eye, mouth, nostril) within which the sculpted shape is left as it is
FADED = 0.013  # metres from where on smoothing is full


def smoothed(
    moves: np.ndarray,  # (E, V, 3)
    faces: np.ndarray,  # (T, 3)
    positions: np.ndarray,  # (V, 3)
    openings: np.ndarray,  # (N, 3) points on the rims of eyes and mouth
) -> np.ndarray:
    """The moves after a few steps of Laplacian smoothing away from the openings."""
    from scipy.spatial import cKDTree

    distance = cKDTree(openings).query(positions)[0]
    share = np.clip((distance - KEPT) / (FADED - KEPT), 0, 1)
    average = _neighbour_mean(faces, len(positions))
    share[np.setdiff1d(np.arange(len(positions)), faces)] = 0
    rate = diags(RATE * share)
    out = moves.transpose(1, 0, 2).reshape(len(positions), -1)
    for _ in range(STEPS):
        out = out + rate @ (average @ out - out)
    out[np.abs(out) < 2e-6] = 0  # two micrometres: what is not moved stays not moved
    return out.reshape(len(positions), len(moves), 3).transpose(1, 0, 2)


def _neighbour_mean(faces: np.ndarray, count: int) -> csr_matrix:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(count, count)).tocsr()
    graph.data[:] = 1.0
    degree = np.asarray(graph.sum(1)).ravel()
    return diags(1 / np.maximum(degree, 1)) @ graph
