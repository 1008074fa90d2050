"""Where the canonical face stands: the similarity transform between it and observed points."""

from __future__ import annotations

import torch
from torch import Tensor

from .face_region import NUM_FACE_POINTS
from .landmarker import CanonicalFace


def solve_similarity(
    source: Tensor,  # (N, 3)
    target: Tensor,  # (N, 3)
    weights: Tensor,  # (N,)
) -> tuple[float, Tensor, Tensor]:  # scale, rotation (3, 3), translation (3,)
    """Least squares target = scale * rotation @ source + translation (Umeyama 1991), without reflection."""
    weights = (weights / weights.sum()).to(source)[:, None]
    source_mean, target_mean = (weights * source).sum(0), (weights * target).sum(0)
    source, target = source - source_mean, target - target_mean
    u, singular, vh = torch.linalg.svd((weights * target).T @ source)
    signs = torch.ones_like(singular)
    signs[-1] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vh))
    rotation = u @ torch.diag(signs) @ vh
    spread = (weights * source.square()).sum()
    if spread <= 0:
        raise ValueError("all points of the face coincide; their pose cannot be solved")
    scale = float((singular * signs).sum() / spread)
    return scale, rotation, target_mean - scale * rotation @ source_mean


def align_to_canonical(
    points: Tensor,  # (478, 3) pixels, as FaceObservation.points
    canonical: CanonicalFace,
) -> Tensor:  # (468, 3) in the canonical face's frame and size, centimetres
    observed = points[:NUM_FACE_POINTS] * points.new_tensor([1.0, -1.0, -1.0])  # y up, z to the viewer
    basis = canonical.pose_points.long()
    scale, rotation, translation = solve_similarity(
        observed[basis], canonical.vertices[basis], canonical.pose_weights
    )
    return scale * observed @ rotation.T + translation
