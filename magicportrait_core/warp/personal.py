"""Personal offsets: what the head model could not express of this face, baked into its vertices."""

from __future__ import annotations

import torch
from torch import Tensor

from ..head.model import HeadModel
from ..head.skinning import axis_angle_to_matrix
from ..tracking.track import FaceTrack

IRISES = 468  # landmarks from here on are the irises, which follow the gaze
MAX_SPREAD = 0.012  # metres; landmarks that wander more on this head say nothing about its shape
OUTLINE_WIDTH = 0.010  # metres, Gaussian width of what is pulled along with the outline
TRUSTED_SPREAD = 0.004  # metres of wandering at which a landmark counts half
REGULARISER = 0.15  # weight of "no offset" beside the Gaussian weights of the landmarks


def personal_offsets(
    head: HeadModel,
    track: FaceTrack,  # 1 frame, with landmarks
    width: float = 0.006,  # metres, Gaussian width
) -> Tensor:  # (V, 3) metres, head space at rest
    """The landmark residual of the fit, moved into the surface around each landmark.

    The residual is known across the view only, so offsets lie in the camera's plane. Source and target share
    them: they never move anything by themselves, they only make the surface lie where the photo shows it.
    """
    if track.landmarks is None or width == 0 or not torch.isfinite(track.landmarks[0]).all():
        return torch.zeros_like(head.template)
    camera = track.camera[:1]
    posed = head.vertices(track.shape, track.expression[:1], track.pose[:1])
    points = camera.project(head.landmark_points(posed))[0]
    spread = head.landmarks.spread.nan_to_num(torch.inf)
    usable = head.landmarks.matched & (spread < MAX_SPREAD)
    usable[IRISES:] = False
    index = usable.nonzero().squeeze(1)
    seen = torch.cat((track.landmarks[0, index, :2].to(points), points[index, 2:]), dim=-1)
    shift = camera.unproject(seen[None])[0] - camera.unproject(points[None, index])[0]
    shift = in_head_space(track, shift)
    rest = head.rest_vertices(track.shape, track.expression[:1])
    centres = head.landmark_points(rest)[0, index]
    weight = torch.exp(-torch.cdist(rest[0], centres).square() / (2 * width**2))
    weight = weight / (1 + (spread[index] / TRUSTED_SPREAD) ** 2)
    return (weight @ shift) / (weight.sum(1, keepdim=True) + REGULARISER)


def outline_offsets(
    head: HeadModel,
    track: FaceTrack,  # 1 frame
    offsets: Tensor,  # (V, 3) the other offsets
    bare: Tensor,  # (V,) bool, skin of the face
    person: Tensor,  # (H, W) bool, photo pixels or larger cells
    cell: int,  # photo pixels per cell
    most: float,  # photo pixels, the largest correction
) -> Tensor:  # (V, 3) metres, head space at rest
    """Pull bare skin that would lie beside the person onto his outline.

    A turning head would else show the background as a rim of skin, and the hidden cheek apart from the face.
    """
    camera = track.camera[:1]
    posed = head.vertices(track.shape, track.expression[:1], track.pose[:1], offsets)
    points = camera.project(posed)[0]
    inside = (person.nonzero().flip(1) + 0.5) * cell
    chosen = bare.nonzero().squeeze(1)
    if not len(chosen) or not len(inside):
        return torch.zeros_like(offsets)
    low, high = points[chosen, :2].amin(0), points[chosen, :2].amax(0)
    inside = inside[((inside > low) & (inside < high)).all(1)]
    column, row = (points[chosen, :2] / cell).long().unbind(1)
    column, row = column.clamp(0, person.shape[1] - 1), row.clamp(0, person.shape[0] - 1)
    chosen = chosen[~person[row, column]]
    if not len(chosen) or not len(inside):
        return torch.zeros_like(offsets)
    here = points[chosen]
    nearest = inside[torch.cdist(here[:, :2], inside).argmin(1)] - here[:, :2]
    nearest = nearest * (most / nearest.norm(dim=-1, keepdim=True).clamp(min=most))
    moved = torch.cat((here[:, :2] + nearest, here[:, 2:]), dim=-1)
    shift = in_head_space(track, camera.unproject(moved[None])[0] - camera.unproject(here[None])[0])
    rest = head.rest_vertices(track.shape, track.expression[:1])[0]
    weight = torch.exp(-torch.cdist(rest, rest[chosen]).square() / (2 * OUTLINE_WIDTH**2))
    return weight.amax(1, keepdim=True) * (weight @ shift) / weight.sum(1, keepdim=True).clamp(min=1e-9)


def in_head_space(track: FaceTrack, shift: Tensor) -> Tensor:  # (N, 3)
    turn = (
        track.camera.view[0, :, :3]
        @ axis_angle_to_matrix(track.pose[0, 0])
        @ axis_angle_to_matrix(track.pose[0, 1])
    )
    return shift @ turn.to(shift)  # rows times R = R^T applied: camera to head
