"""Values known at some vertices, continued smoothly over the whole mesh."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve
from torch import Tensor

SMOOTHNESS = 0.05  # of known values; unknown ones are as smooth as can be
TOWARDS_FALLBACK = 1e-6


def fill_vertices(
    values: Tensor,  # (V, C)
    weight: Tensor,  # (V,) 0 unknown .. 1 known
    faces: Tensor,  # (T, 3) the mesh to continue over
    fallback: Tensor,  # (C,) where no known vertex is connected
) -> Tensor:  # (V, C)
    """The smoothest values (graph Laplacian) that agree with the known ones."""
    count = values.shape[0]
    a, b, c = faces.cpu().numpy().T
    rows, columns = np.concatenate((a, b, c, b, c, a)), np.concatenate((b, c, a, a, b, c))
    links = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count)).tocsr()
    links.data[:] = 1
    laplacian = diags(np.asarray(links.sum(1)).ravel()) - links
    known = weight.cpu().double().numpy()
    matrix = diags(known + TOWARDS_FALLBACK) + SMOOTHNESS * laplacian
    right = (
        known[:, None] * values.cpu().double().numpy() + TOWARDS_FALLBACK * fallback.cpu().double().numpy()
    )
    solution = spsolve(matrix.tocsc(), right)
    return torch.from_numpy(solution.reshape(count, -1)).to(values)
