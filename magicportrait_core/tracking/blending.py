"""A frame of a track between two others: rotations along the arc, everything else along the line."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .rotations import slerp, slerp_axis_angle
from .track import FaceTrack


def blend_frames(
    track: FaceTrack,
    first: Tensor,  # (N,) int64 frame numbers
    second: Tensor,  # (N,) int64
    amount: Tensor,  # (N,) 0: first, 1: second
) -> FaceTrack:
    """A track of N frames. A frame is found when both of its sources are (one, if it is a copy)."""
    amount = amount.to(track.pose)
    # a copy must not touch its other source, which may hold NaN
    first, second = torch.where(amount == 1, second, first), torch.where(amount == 0, first, second)
    a, b = track[first], track[second]

    def mix(x: Tensor, y: Tensor) -> Tensor:
        t = amount.reshape(-1, *[1] * (x.ndim - 1))
        return torch.where(x == y, x, torch.lerp(x, y, t.expand_as(x)))

    same_turn = (a.camera.view[..., :3] == b.camera.view[..., :3]).all(-1).all(-1)[:, None, None]
    turn = slerp(a.camera.view[..., :3], b.camera.view[..., :3], amount)
    view = torch.cat(
        (torch.where(same_turn, a.camera.view[..., :3], turn), mix(a.camera.view, b.camera.view)[..., 3:]), -1
    )
    return replace(
        a,
        expression=mix(a.expression, b.expression),
        pose=slerp_axis_angle(a.pose, b.pose, amount[:, None].expand(-1, a.pose.shape[1])),
        eyelids=mix(a.eyelids, b.eyelids),
        camera=replace(a.camera, view=view, intrinsics=mix(a.camera.intrinsics, b.camera.intrinsics)),
        confidence=mix(a.confidence, b.confidence),
        found=a.found & b.found,
        error=mix(a.error, b.error),
        landmarks=None if a.landmarks is None else mix(a.landmarks, b.landmarks),
        covered=None if a.covered is None else a.covered | b.covered,
    )
