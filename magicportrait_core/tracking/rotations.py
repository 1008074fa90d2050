"""Means and blends of rotations given as axis-angle vectors or matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from ..head.skinning import axis_angle_to_matrix, matrix_to_axis_angle


def slerp(
    start: Tensor,  # (..., 3, 3)
    end: Tensor,  # (..., 3, 3)
    amount: Tensor,  # (...,) 0: start, 1: end
) -> Tensor:  # (..., 3, 3)
    """The rotation at `amount` of the way, at constant speed along the shorter arc."""
    way = matrix_to_axis_angle(start.transpose(-1, -2) @ end)
    return start @ axis_angle_to_matrix(way * amount[..., None])


def slerp_axis_angle(
    start: Tensor,  # (..., 3)
    end: Tensor,  # (..., 3)
    amount: Tensor,  # (...,)
) -> Tensor:  # (..., 3)
    """As `slerp`; `start` itself where the ends are equal."""
    turned = matrix_to_axis_angle(slerp(axis_angle_to_matrix(start), axis_angle_to_matrix(end), amount))
    return torch.where((start == end).all(-1, keepdim=True), start, turned)


def angle_between(
    first: Tensor,  # (..., 3, 3)
    second: Tensor,  # (..., 3, 3)
) -> Tensor:  # (...,) radians, 0..pi
    return matrix_to_axis_angle(first.transpose(-1, -2) @ second).norm(dim=-1)


def euler_degrees(
    matrix: Tensor,  # (..., 3, 3)
) -> Tensor:  # (..., 3) yaw, pitch, roll in degrees
    """How people say a head is turned: yaw + to the picture's right, pitch + down, roll + towards the
    picture's left.
    """
    yaw = torch.atan2(matrix[..., 0, 2], matrix[..., 2, 2])
    pitch = -torch.asin(matrix[..., 1, 2].clamp(-1, 1))
    roll = torch.atan2(matrix[..., 1, 0], matrix[..., 1, 1])
    return torch.rad2deg(torch.stack((yaw, pitch, roll), -1))


def rotation_of_euler(
    degrees: Tensor,  # (..., 3) yaw, pitch, roll as `euler_degrees`
) -> Tensor:  # (..., 3, 3)
    """Return the rotation with these angles: about y, then x, then z of the turned head."""
    turns = torch.deg2rad(degrees)[..., None] * degrees.new_tensor([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]])
    yaw, pitch, roll = axis_angle_to_matrix(turns).unbind(-3)
    return yaw @ pitch @ roll
