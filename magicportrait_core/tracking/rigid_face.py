"""Where the canonical face stands: the similarity transform between it and observed points."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .face_region import NUM_FACE_POINTS
from .landmarker import CanonicalFace
from .rigid import similarity_transform

VERTICAL_FOV = 63.0  # degrees; of the camera MediaPipe assumes
NEAR = 1.0  # centimetres


def solve_similarity(
    source: Tensor,  # (N, 3)
    target: Tensor,  # (N, 3)
    weights: Tensor,  # (N,)
) -> tuple[float, Tensor, Tensor]:  # scale, rotation (3, 3), translation (3,)
    """`similarity_transform` of one face."""
    if bool((source == source[:1]).all()):
        raise ValueError("all points of the face coincide; their pose cannot be solved")
    scale, rotation, translation = similarity_transform(source, target[None], weights.to(source))
    return float(scale), rotation[0], translation[0]


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


def facial_transformation(
    points: Tensor,  # (478, 3) pixels, as FaceObservation.points
    size: tuple[int, int],  # height, width of the picture
    canonical: CanonicalFace,
) -> Tensor:  # (4, 4) canonical face -> camera, centimetres, y up, looking along -z
    """MediaPipe's facial transformation matrix (geometry_pipeline.cc): a camera of 63 degrees is assumed,
    and the face's depth follows from its size against the canonical face, in two passes."""
    height, width = size
    near_height = 2 * NEAR * math.tan(math.radians(VERTICAL_FOV) / 2)
    unit = near_height / height  # of a pixel on the near plane
    points = points[:NUM_FACE_POINTS].double().cpu()
    screen = torch.stack(
        ((points[:, 0] - width / 2) * unit, (height / 2 - points[:, 1]) * unit, points[:, 2] * unit), -1
    )
    screen[:, 2] -= screen[:, 2].mean()
    basis = canonical.pose_points.long()
    source, weights = canonical.vertices[basis].double(), canonical.pose_weights.double()

    def solve(face: Tensor) -> tuple[float, Tensor, Tensor]:
        return solve_similarity(source, face[basis], weights)

    flipped = screen * screen.new_tensor([1, 1, -1])
    scale, _, _ = solve(flipped)
    again, _, _ = solve(_unproject(screen, scale))
    scale, rotation, translation = solve(_unproject(screen, scale * again))
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = scale * rotation, translation
    return matrix.float()


def _unproject(screen: Tensor, scale: float) -> Tensor:
    """Points on the near plane (N, 3) to camera space, for a face `scale` times the size of the canonical."""
    depth = (screen[:, 2:] + NEAR) / scale
    return torch.cat((screen[:, :2] * depth / NEAR, -depth), -1)
