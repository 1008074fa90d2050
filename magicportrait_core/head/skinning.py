"""Rotations, blend shapes, linear blend skinning and vertex normals as functions of tensors.

Source of the formulas: Loper et al. 2015 (SMPL) and Li et al. 2017 (FLAME), sections 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

NORMAL_EPS = 1e-6  # length below which a summed normal is left short, as in the released renderer


def skew(
    v: Tensor,  # (..., 3)
) -> Tensor:  # (..., 3, 3)
    """Matrices of the cross product: skew(v) @ u = v x u."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))


def axis_angle_to_matrix(
    v: Tensor,  # (..., 3) radians
) -> Tensor:  # (..., 3, 3)
    """Rotation matrices of axis-angle vectors (Rodrigues' formula), differentiable at zero."""
    squared = (v * v).sum(-1)[..., None, None]
    angle = torch.where(squared > 0, squared, torch.ones_like(squared)).sqrt()
    angle = torch.where(squared > 0, angle, torch.zeros_like(angle))
    sine = torch.sinc(angle / torch.pi)  # sin(angle) / angle
    cosine = 0.5 * torch.sinc(angle / (2 * torch.pi)) ** 2  # (1 - cos(angle)) / angle^2, without cancellation
    k = skew(v)
    return torch.eye(3, dtype=v.dtype, device=v.device) + sine * k + cosine * (k @ k)


def matrix_to_axis_angle(
    matrix: Tensor,  # (..., 3, 3) rotations
) -> Tensor:  # (..., 3) radians, length 0..pi
    """Axis-angle vectors of rotation matrices, by way of quaternions; accurate near zero and near pi."""
    w, xyz = _quaternion(matrix)
    length = _safe_norm(xyz)
    angle = 2 * torch.atan2(length, w)
    small = length < 1e-7
    scale = torch.where(
        small, 2 / w.clamp(min=0.5), angle / torch.where(small, torch.ones_like(length), length)
    )
    return xyz * scale


def _quaternion(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Quaternions w >= 0 (..., 1) and xyz (..., 3) of rotation matrices.

    Of the four classical formulas each matrix takes the one that divides by its largest component.
    """
    m = [[matrix[..., i, j] for j in range(3)] for i in range(3)]
    one = torch.ones_like(m[0][0])
    candidates = torch.stack(
        (
            torch.stack(
                (
                    one + m[0][0] + m[1][1] + m[2][2],
                    m[2][1] - m[1][2],
                    m[0][2] - m[2][0],
                    m[1][0] - m[0][1],
                ),
                -1,
            ),
            torch.stack(
                (
                    m[2][1] - m[1][2],
                    one + m[0][0] - m[1][1] - m[2][2],
                    m[0][1] + m[1][0],
                    m[0][2] + m[2][0],
                ),
                -1,
            ),
            torch.stack(
                (
                    m[0][2] - m[2][0],
                    m[0][1] + m[1][0],
                    one - m[0][0] + m[1][1] - m[2][2],
                    m[1][2] + m[2][1],
                ),
                -1,
            ),
            torch.stack(
                (
                    m[1][0] - m[0][1],
                    m[0][2] + m[2][0],
                    m[1][2] + m[2][1],
                    one - m[0][0] - m[1][1] + m[2][2],
                ),
                -1,
            ),
        ),
        dim=-2,
    )  # (..., 4, 4): row i is the quaternion times 4 q_i
    best = candidates.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = candidates.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    row = row / row.norm(dim=-1, keepdim=True)
    row = torch.where(row[..., :1] < 0, -row, row)
    return row[..., :1], row[..., 1:]


def _safe_norm(v: Tensor) -> Tensor:  # (..., 1), with gradient 0 at zero
    squared = (v * v).sum(-1, keepdim=True)
    zero = squared == 0
    return torch.where(zero, squared, torch.where(zero, torch.ones_like(squared), squared).sqrt())


def blend(
    coefficients: Tensor,  # (B, N)
    basis: Tensor,  # (M, V, 3) with M >= N
) -> Tensor:  # (B, V, 3)
    """Weighted sum of the first N basis shapes."""
    used = basis[: coefficients.shape[1]]
    return (coefficients @ used.flatten(1)).unflatten(-1, used.shape[1:])


def joint_transforms(
    rotations: Tensor,  # (B, J, 3, 3) of each joint relative to its parent
    joints: Tensor,  # (B, J, 3) places at rest
    parents: tuple[int, ...],  # (J,) a parent stands before its children, -1 for the root
) -> Tensor:  # (B, J, 3, 4) from rest to posed space
    """Rigid motion of each joint's flesh: the chain of rotations about the joints' rest places."""
    turns: list[Tensor] = []
    places: list[Tensor] = []
    for joint, parent in enumerate(parents):
        if parent < 0:
            turns.append(rotations[:, joint])
            places.append(joints[:, joint])
            continue
        bone = joints[:, joint] - joints[:, parent]
        turns.append(turns[parent] @ rotations[:, joint])
        places.append(places[parent] + (turns[parent] @ bone[..., None]).squeeze(-1))
    turn, place = torch.stack(turns, 1), torch.stack(places, 1)
    shift = place - (turn @ joints[..., None]).squeeze(-1)
    return torch.cat((turn, shift[..., None]), -1)


def skin(
    vertices: Tensor,  # (B, V, 3) at rest
    transforms: Tensor,  # (B, J, 3, 4)
    weights: Tensor,  # (V, J), rows sum to 1
) -> Tensor:  # (B, V, 3)
    """Linear blend skinning: each vertex moved by the weighted mean of its joints' transforms."""
    blended = (weights @ transforms.flatten(2)).unflatten(-1, (3, 4))  # (B, V, 3, 4)
    return (blended[..., :3] @ vertices[..., None]).squeeze(-1) + blended[..., 3]


def pose_features(
    rotations: Tensor,  # (B, J, 3, 3)
) -> Tensor:  # (B, 9 (J - 1)) row-major (R - I) of every joint but the root
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return (rotations[:, 1:] - identity).flatten(1)


def vertex_normals(
    vertices: Tensor,  # (B, V, 3)
    faces: Tensor,  # (T, 3) int64, counter-clockwise seen from outside
) -> Tensor:  # (B, V, 3) unit length; zero for a vertex without faces
    """Normals of the vertices: the sum of area-weighted face normals, normalised."""
    corner = vertices[:, faces]  # (B, T, 3, 3)
    face_normal = torch.linalg.cross(corner[:, :, 1] - corner[:, :, 0], corner[:, :, 2] - corner[:, :, 0])
    summed = torch.zeros_like(vertices)
    for column in range(3):
        summed = summed.index_add(1, faces[:, column], face_normal)
    return torch.nn.functional.normalize(summed, dim=-1, eps=NORMAL_EPS)
