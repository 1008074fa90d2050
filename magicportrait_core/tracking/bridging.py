"""Covered parts of a face move evenly from what was seen before to what is seen after."""

from __future__ import annotations

from dataclasses import replace

import torch
from scipy.linalg import solveh_banded
from torch import Tensor

from ..head.skinning import axis_angle_to_matrix, matrix_to_axis_angle
from .covers import ZONES, moved_by
from .missing import between
from .rotations import slerp_axis_angle
from .track import FaceTrack

SLOW = 0.13  # seconds; departures quicker than about six times this are taken for the cover's
PINNED, UNKNOWN = 1e6, 1e-6  # weight of frames that stay, and of frames without a face


def bridge_covers(track: FaceTrack) -> FaceTrack:
    """The track with the motion of covered zones taken from the frames around: along the line between them,
    held at the ends of the clip. The head keeps the slow part of the motion that is fitted to the rest of the
    face. A zone that is covered in every frame stays as it is, for there is nothing to take.
    """
    if track.covered is None or track.num_frames < 2:
        return track
    for column, zone in enumerate(ZONES):
        hidden = track.covered[:, column] & track.found
        known = track.found & ~track.covered[:, column]
        if bool(hidden.any()) and bool(known.any()):
            track = _bridged(track, zone, hidden, known)
    return _with_calm_head(track)


def _bridged(track: FaceTrack, zone: str, hidden: Tensor, known: Tensor) -> FaceTrack:
    before, after, amount = (values.to(track.pose.device) for values in between(known.cpu()))

    def mixed(values: Tensor) -> Tensor:  # (F, P)
        return torch.lerp(values[before], values[after], amount[:, None])

    columns, lids, joints = moved_by(zone, track.expression_names, track.expression.shape[1])
    expression, eyelids, pose = track.expression.clone(), track.eyelids.clone(), track.pose.clone()
    rows = hidden.nonzero().squeeze(1)[:, None]
    expression[rows, columns] = mixed(track.expression)[rows, columns]
    eyelids[rows, lids] = mixed(track.eyelids)[rows, lids]
    way = amount[:, None].expand(-1, track.pose.shape[1])
    pose[rows, joints] = slerp_axis_angle(track.pose[before], track.pose[after], way)[rows, joints]
    return replace(track, expression=expression, eyelids=eyelids, pose=pose)


def _with_calm_head(track: FaceTrack) -> FaceTrack:
    """A cover moves all landmarks a little, those beside it too, so the head seems to turn as it comes and
    goes and to tremble while it stays. Under it the turn is the line between the free frames around and the
    slow part of what departs from that line (Whittaker 1923: least squares with a penalty on second
    differences).
    """
    hidden = (track.covered.any(1) & track.found).cpu()
    known = track.found.cpu() & ~hidden
    if not bool(hidden.any()) or not bool(known.any()):
        return track
    before, after, amount = (values.to(track.pose.device) for values in between(known))
    line = axis_angle_to_matrix(slerp_axis_angle(track.pose[before, 0], track.pose[after, 0], amount))
    away = matrix_to_axis_angle(axis_angle_to_matrix(track.pose[:, 0]) @ line.transpose(-1, -2))
    trust = (1 / (SLOW * max(track.fps, 1.0))) ** 4
    weight = torch.where(hidden, trust, torch.where(known, PINNED, UNKNOWN)).double()
    slow = _without_quick_parts(away.nan_to_num().cpu().double(), weight).to(away)
    turned = track.pose.clone()
    turned[hidden, 0] = matrix_to_axis_angle(axis_angle_to_matrix(slow) @ line)[hidden]
    return replace(track, pose=turned)


def _without_quick_parts(values: Tensor, weight: Tensor) -> Tensor:  # (F, P), (F,) -> (F, P)
    """Minimise the weighted squares of the change and the squares of second differences."""
    bands = torch.zeros(3, len(values), dtype=values.dtype)  # diagonals of the normal equations
    for place, factor in enumerate((1.0, 4.0, 1.0)):
        bands[0, place : len(values) - 2 + place] += factor
    bands[1, :-2] -= 2.0
    bands[1, 1:-1] -= 2.0
    bands[2, :-2] = 1.0
    bands[0] += weight
    return torch.from_numpy(solveh_banded(bands.numpy(), (weight[:, None] * values).numpy(), lower=True))
