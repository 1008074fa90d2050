"""Head rotation relative to the line of sight, so that a place in the picture is not taken for a turn.

A face that looks at the camera from the edge of a wide picture is rotated in camera space, and shows itself
frontally all the same. Rotations are therefore compared and transferred in a frame whose z axis points from
the face to the camera. Trackers that aim the camera at each face give such rotations already; tracks of older
versions and of other trackers are brought there by the place of their landmarks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..head.skinning import axis_angle_to_matrix
from ..tracking.track import FaceTrack


def head_rotation(track: FaceTrack) -> Tensor:  # (F, 3, 3)
    """Return the skull's rotation in camera space: view, root and neck together."""
    turn = axis_angle_to_matrix(track.pose[:, :2])
    return track.camera.view[..., :3] @ turn[:, 0] @ turn[:, 1]


def seen_rotation(track: FaceTrack) -> Tensor:  # (F, 3, 3)
    """Return the skull's rotation relative to the line of sight: the identity for a face seen frontally."""
    return aim(sight_direction(track)).transpose(-1, -2) @ head_rotation(track)


def sight_direction(track: FaceTrack) -> Tensor:  # (F, 3) camera space, z = -1
    """Return the direction from the camera to the middle of the face's landmarks.

    Frames without landmarks take those of the nearest frames in time. Orthographic cameras look along -z
    everywhere; so does a track without any landmarks, whose face is taken to stand in the camera's axis.
    """
    ahead = track.pose.new_tensor([0.0, 0.0, -1.0]).expand(track.num_frames, 3)
    if track.camera.projection == "orthographic" or track.landmarks is None:
        return ahead
    middle = track.landmarks[..., :2].nanmean(1)  # (F, 2) pixels
    known = middle.isfinite().all(1)
    if not bool(known.any()):
        return ahead
    focal, *centre = track.camera.intrinsics.unbind(1)
    offset = (middle - torch.stack(centre, 1)) / focal[:, None]
    offset = _filled(offset, known)
    return torch.stack((offset[:, 0], -offset[:, 1], ahead[:, 2]), 1)


def aim(
    direction: Tensor,  # (..., 3) from the camera to the face
) -> Tensor:  # (..., 3, 3)
    """Return the shortest rotation from the camera's axis (0, 0, -1) to a direction (Rodrigues)."""
    unit = torch.nn.functional.normalize(direction, dim=-1)
    ahead = unit.new_tensor([0.0, 0.0, -1.0]).expand_as(unit)
    axis = torch.linalg.cross(ahead, unit)
    sine = axis.norm(dim=-1, keepdim=True)
    angle = torch.atan2(sine, (ahead * unit).sum(-1, keepdim=True))
    return axis_angle_to_matrix(axis / sine.clamp(min=1e-12) * angle)


def _filled(
    values: Tensor,  # (F, C)
    known: Tensor,  # (F,) bool, at least one True
) -> Tensor:  # (F, C)
    """Rows that are not known, between their neighbours in time; held at the ends."""
    if bool(known.all()):
        return values
    places = known.nonzero().flatten().float()
    frames = torch.arange(len(known), dtype=places.dtype, device=places.device)
    right = torch.searchsorted(places, frames).clamp(1, max(len(places) - 1, 1))
    if len(places) == 1:
        return values[known].expand_as(values)
    amount = (frames - places[right - 1]) / (places[right] - places[right - 1])
    rows = values[known]
    return torch.lerp(rows[right - 1], rows[right], amount.clamp(0, 1)[:, None])
