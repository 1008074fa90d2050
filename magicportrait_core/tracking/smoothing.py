"""Less jitter without lag and without losing blinks.

A bilateral filter in time (Tomasi and Manduchi 1998): each frame becomes the mean of its neighbours, weighted
by nearness in time (a symmetric Gaussian, so nothing is delayed) and by likeness of value. Jitter is a small
change and is averaged away; a blink, a nod or a cut is a large one and stays where and as high as it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..head.skinning import axis_angle_to_matrix, matrix_to_axis_angle
from .track import FaceTrack

TIME_SIGMA = 0.1  # seconds at strength 1
EXPRESSION_SIGMA = 0.08  # change of an ARKit coefficient that counts as motion
UNNAMED_SIGMA = 0.4  # the same for a Gaussian expression basis (FLAME), standard deviations
TURN_SIGMA = math.radians(2.0)
PLACE_SIGMA = 0.004  # metres, in the plane of the picture
DEPTH_SIGMA = 0.02  # share of the distance: depth is guessed from size and jitters most
GAZE = "eyeLook"  # beginning of the names of ARKit gaze coefficients
LEFT_EYE = 3  # index of the joint; the right eye follows
JAW = 2


@dataclass(frozen=True)
class SmoothingOptions:
    """Strengths of the filter: 0 leaves the values exactly as they are, 1 averages over about a quarter
    second.
    """

    head: float = 0.5  # rotation and place
    expression: float = 0.5  # face muscles, jaw, lids
    gaze: float = 0.25  # eyes move in jumps; more than a little makes them swim

    def __post_init__(self):
        for name in ("head", "expression", "gaze"):
            if not 0 <= getattr(self, name) <= 4:
                raise ValueError(f"smoothing {name}={getattr(self, name)}; expected 0 (raw) to 1, at most 4")


def smooth(track: FaceTrack, options: SmoothingOptions | None = None) -> FaceTrack:
    """The track with less jitter; the track itself when it is a picture or shorter than three frames."""
    options = options or SmoothingOptions()
    if track.fps == 0 or track.num_frames < 3:
        return track
    if options.head > 0:
        track = _smooth_head(track, options.head)
    if options.expression > 0 or options.gaze > 0:
        track = _smooth_face(track, options)
    return track


def _smooth_head(track: FaceTrack, strength: float) -> FaceTrack:
    """Rotation and place share their weights: the fit trades one for the other, and so must the mean.

    The place is that of `Camera.places`: cameras that look at the face carry it in their principal points,
    whose means are taken with the same weights. Frames equal to all their neighbours keep their bits.
    """
    near = _Neighbours(track, strength)
    view = track.camera.view
    turn = axis_angle_to_matrix(track.pose[:, :2])  # (F, 2, 3, 3) root, neck
    place, depth = track.camera.places(), view[:, 2, 3].abs().clamp(min=1e-6)
    turns = matrix_to_axis_angle(turn[:, None].transpose(-1, -2) @ turn[near.index])  # (F, N, 2, 3)
    same = (track.pose[near.index, :2] == track.pose[:, None, :2]).all(-1, keepdim=True)
    turns = torch.where(same, torch.zeros_like(turns), turns)
    shift = near.changes(place)  # (F, N, 3)
    unlike = (
        turns.square().sum((-1, -2)) / TURN_SIGMA**2
        + shift[..., :2].square().sum(-1) / PLACE_SIGMA**2
        + (shift[..., 2] / depth[:, None] / DEPTH_SIGMA) ** 2
    )
    weight = near.weights(unlike)  # (F, N)

    def mean(values: Tensor) -> Tensor:  # (F, P)
        return values + (weight[..., None] * near.changes(values)).nansum(1)

    mean_turn = (weight[..., None, None] * turns).nansum(1)
    turned = matrix_to_axis_angle(turn @ axis_angle_to_matrix(mean_turn))
    pose = track.pose.clone()
    pose[:, :2] = torch.where(mean_turn.any(-1, keepdim=True), turned, pose[:, :2])
    camera, intrinsics = track.camera, track.camera.intrinsics
    camera = replace(
        camera,
        view=torch.cat((view[..., :3], mean(view[..., 3])[..., None]), -1),
        intrinsics=torch.cat((intrinsics[:, :1], mean(intrinsics[:, 1:])), 1),
    )
    if camera.projection == "orthographic":  # the size stands for the distance
        size = near.mean(camera.intrinsics[:, :1].log(), DEPTH_SIGMA).exp()
        camera = replace(camera, intrinsics=torch.cat((size, camera.intrinsics[:, 1:]), 1))
    return replace(track, pose=pose, camera=camera)


def _smooth_face(track: FaceTrack, options: SmoothingOptions) -> FaceTrack:
    names = track.expression_names
    gaze = track.found.new_tensor([n.startswith(GAZE) for n in names] or [False] * track.expression.shape[1])
    sigma = EXPRESSION_SIGMA if "jawOpen" in names else UNNAMED_SIGMA
    expression, pose, eyelids = track.expression, track.pose.clone(), track.eyelids
    if options.expression > 0:
        near = _Neighbours(track, options.expression)
        expression = torch.where(gaze, expression, near.mean(expression, sigma))
        pose[:, JAW] = near.mean(pose[:, JAW], EXPRESSION_SIGMA / 2)
        eyelids = near.mean(eyelids, EXPRESSION_SIGMA)
    if options.gaze > 0:
        near = _Neighbours(track, options.gaze)
        expression = torch.where(gaze, near.mean(track.expression, EXPRESSION_SIGMA), expression)
        eyes = pose[:, LEFT_EYE:].flatten(1)
        pose[:, LEFT_EYE:] = near.mean(eyes, EXPRESSION_SIGMA / 2).unflatten(1, (2, 3))
    return replace(track, expression=expression, pose=pose, eyelids=eyelids)


class _Neighbours:
    """Frames around each frame and their weights in time; frames without values have none."""

    def __init__(self, track: FaceTrack, strength: float):
        sigma = max(TIME_SIGMA * strength * track.fps, 1e-3)  # frames
        reach = min(math.ceil(3 * sigma), track.num_frames - 1)
        device = track.pose.device
        offset = torch.arange(-reach, reach + 1, device=device)
        index = torch.arange(track.num_frames, device=device)[:, None] + offset  # (F, N)
        inside = (index >= 0) & (index < track.num_frames)
        self.index = index.clamp(0, track.num_frames - 1)
        known = track.pose.isfinite().flatten(1).all(1)
        self.time = torch.exp(-0.5 * (offset / sigma) ** 2) * (inside & known[self.index])

    def weights(
        self,
        unlike: Tensor,  # (F, N, ...) squared difference in sigmas
    ) -> Tensor:  # as `unlike`, sums to 1 over N
        time = self.time.reshape(*self.time.shape, *[1] * (unlike.ndim - 2))
        weight = (time * torch.exp(-0.5 * unlike)).nan_to_num(0.0)
        return weight / weight.sum(1, keepdim=True).clamp(min=1e-12)

    def changes(
        self,
        values: Tensor,  # (F, P)
    ) -> Tensor:  # (F, N, P), of each neighbour from the frame itself
        return values[self.index] - values[:, None]

    def mean(
        self,
        values: Tensor,  # (F, P)
        sigma: float,
    ) -> Tensor:  # (F, P); a constant column stays as it is, bit for bit
        change = self.changes(values)
        return values + (self.weights((change / sigma) ** 2) * change).nansum(1)
