"""Covered parts of a face move evenly from what was seen before to what is seen after."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..head.skinning import axis_angle_to_matrix, matrix_to_axis_angle
from .covers import ZONES, moved_by
from .missing import between, frame_ranges
from .rotations import slerp_axis_angle
from .track import FaceTrack


def bridge_covers(track: FaceTrack) -> FaceTrack:
    """The track with the motion of covered zones taken from the frames around: along the line between them,
    held at the ends of the clip. The head keeps the motion that is fitted to the rest of the face, without
    the step with which a cover comes and goes. A zone that is covered in every frame stays as it is, for
    there is nothing to take.
    """
    if track.covered is None or track.num_frames < 2:
        return track
    for column, zone in enumerate(ZONES):
        hidden = track.covered[:, column] & track.found
        known = track.found & ~track.covered[:, column]
        if bool(hidden.any()) and bool(known.any()):
            track = _bridged(track, zone, hidden, known)
    for first, last in frame_ranges((track.covered.any(1) & track.found).cpu()):
        track = _without_steps(track, first, last)
    return track


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


def _without_steps(track: FaceTrack, first: int, last: int) -> FaceTrack:
    """A cover shifts all landmarks a little, so the head seems to turn as it comes and as it goes. The turn
    beyond that of the frames around is such a step; it is taken back, evenly from end to end.

    The run of flags holds one uncovered frame at each end (covers.covered_zones), unless the clip begins or
    ends under the cover.
    """
    pose = axis_angle_to_matrix(track.pose[:, 0])
    comes, goes = _step(pose, first), _step(pose.flip(0), track.num_frames - 1 - last)
    if last - first < 2 or (comes is None and goes is None):
        return track
    comes, goes = (goes if comes is None else comes), (comes if goes is None else goes)
    inner = slice(first + (first > 0), last + 1 - (last < track.num_frames - 1))
    share = torch.linspace(0, 1, inner.stop - inner.start, device=pose.device)[:, None]
    back = axis_angle_to_matrix(-torch.lerp(comes.expand(len(share), 3), goes.expand(len(share), 3), share))
    turned = track.pose.clone()
    turned[inner, 0] = matrix_to_axis_angle(back @ pose[inner])
    return replace(track, pose=turned)


def _step(
    turn: Tensor,  # (F, 3, 3)
    edge: int,  # the last frame before the cover
) -> Tensor | None:  # (3,) axis-angle in camera space; None where the cover is there from the beginning
    if not 0 < edge < len(turn) - 2:
        return None
    moves = matrix_to_axis_angle(
        turn[edge : edge + 3] @ turn[edge - 1 : edge + 2].transpose(-1, -2)
    )  # (3, 3)
    step = moves[1] - (moves[0] + moves[2]) / 2
    return step if bool(step.isfinite().all()) else None
