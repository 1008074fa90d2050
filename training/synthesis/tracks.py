"""The tracks that a tracker would give of rendered frames: nearly right, with the pack's own conventions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from magicportrait_core.head.model import HeadModel
from magicportrait_core.head.skinning import axis_angle_to_matrix, matrix_to_axis_angle
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.tracking.fitting import FitOptions, focal_length
from magicportrait_core.tracking.track import FaceTrack

from .rendering import Posed

STEADY = 1.0  # how large the tracker's errors are; 0: the truth
FACE_LANDMARKS = tuple(range(468))  # without irises
OUTER_EYES = (33, 263)


@dataclass(frozen=True)
class TrackerError:
    """Errors of one clip: what all frames share, and what changes from frame to frame.

    Sizes give landmarks that are off by about 1 % of the outer-eye distance, as measured of the real fit,
    and in some clips by twice that, as in difficult videos.
    """

    shape: Tensor  # (S,) standard deviations
    expression: Tensor  # (E,)
    jitter: float  # of expressions, per frame
    turn: float  # radians, per frame
    landmarks: float  # share of the outer-eye distance, per frame


def random_error(random: np.random.Generator, head: HeadModel, size: float = STEADY) -> TrackerError:
    size = size * (random.uniform(0.3, 1.3) if random.random() < 0.6 else random.uniform(1.3, 2.5))
    shape = random.standard_normal(head.num_shape) * 0.25 * size
    expression = random.standard_normal(head.num_expression) * 0.04 * size
    return TrackerError(
        shape=torch.from_numpy(shape.astype(np.float32)),
        expression=torch.from_numpy(expression.astype(np.float32)),
        jitter=0.02 * size,
        turn=0.006 * size,
        landmarks=0.005 * size,
    )


def true_landmarks(head: HeadModel, shape: Tensor, frame: Posed) -> Tensor:  # (478, 3) pixels, depth
    vertices = head.vertices(shape, frame.expression, frame.pose)
    return head.landmark_points(frame.camera.project(vertices))[0]


def tracked_portrait(
    random: np.random.Generator, head: HeadModel, shape: Tensor, frame: Posed, error: TrackerError
) -> FaceTrack:
    """The track of the portrait: rotation about the root, a fixed field of view, landmarks."""
    seen = true_landmarks(head, shape, frame)
    noise = random.standard_normal((len(seen), 2)) * error.landmarks
    noise += random.standard_normal(2) * error.landmarks / 2
    unit = (seen[OUTER_EYES[0], :2] - seen[OUTER_EYES[1], :2]).norm()
    marks = seen.clone()
    marks[:, :2] += torch.from_numpy(noise.astype(np.float32)) * unit
    pose = torch.zeros(1, 5, 3)
    pose[0, 0] = matrix_to_axis_angle(_turned(random, frame, error)[None])[0]
    track = FaceTrack(
        head=head.name,
        shape=shape + error.shape,
        expression=_expression(random, frame, error),
        pose=pose,
        eyelids=torch.zeros(1, 2),
        camera=_start(head, shape, frame),
        fps=0.0,
        confidence=torch.ones(1),
        found=torch.ones(1, dtype=torch.bool),
        error=torch.ones(1),
        landmarks=marks[None],
        expression_names=head.expression_names,
    )
    return _placed(head, track, seen)


def tracked_target(
    random: np.random.Generator,
    head: HeadModel,
    shape: Tensor,
    frame: Posed,
    error: TrackerError,
    portrait: FaceTrack,
    fps: float = 0.0,
) -> FaceTrack:
    """The aligned track of a target: the portrait's person and bust, the head turned on its neck."""
    root = axis_angle_to_matrix(portrait.pose[:, 0])[0]
    pose = portrait.pose.clone()
    pose[0, 1] = matrix_to_axis_angle((root.T @ _turned(random, frame, error))[None])[0]
    track = FaceTrack(
        head=head.name,
        shape=portrait.shape,
        expression=_expression(random, frame, error),
        pose=pose,
        eyelids=portrait.eyelids,
        camera=portrait.camera,
        fps=fps,
        confidence=portrait.confidence,
        found=portrait.found,
        error=torch.full((1,), torch.nan),
        expression_names=head.expression_names,
    )
    return _placed(head, track, true_landmarks(head, shape, frame))


def _turned(random: np.random.Generator, frame: Posed, error: TrackerError) -> Tensor:  # (3, 3)
    """The skull's rotation in camera space, slightly wrong."""
    wrong = torch.from_numpy((random.standard_normal(3) * error.turn).astype(np.float32))
    skull = frame.camera.view[0, :, :3] @ axis_angle_to_matrix(frame.pose[:, 1])[0]
    return axis_angle_to_matrix(wrong[None])[0] @ skull


def _expression(random: np.random.Generator, frame: Posed, error: TrackerError) -> Tensor:  # (1, E)
    jitter = random.standard_normal(frame.expression.shape[1]) * error.jitter
    wrong = error.expression + torch.from_numpy(jitter.astype(np.float32))
    return (frame.expression + wrong).clamp(0, 1)


def _start(head: HeadModel, shape: Tensor, frame: Posed) -> Camera:
    """A camera of the tracker's field of view that sees the head about where it is."""
    height = frame.camera.size[0]
    focal = focal_length(FitOptions().field_of_view, height)
    middle = frame.camera.to_camera(head.vertices(shape, frame.expression, frame.pose))[0].mean(0)
    place = middle * middle.new_tensor([1.0, 1.0, focal / float(frame.camera.intrinsics[0, 0])])
    skull = frame.camera.view[0, :, :3] @ axis_angle_to_matrix(frame.pose[:, 1])[0]
    joint = head.rest_joints(shape, frame.expression)[0, 0]
    rest = head.rest_vertices(shape, frame.expression)[0].mean(0)
    shift = place - skull @ (rest - joint) - joint
    view = torch.cat((torch.eye(3), shift[:, None]), 1)[None]
    intrinsics = frame.camera.intrinsics.new_tensor([[focal, frame.camera.size[1] / 2, height / 2]])
    return Camera(view, intrinsics, frame.camera.size)


def _placed(head: HeadModel, track: FaceTrack, seen: Tensor, steps: int = 3) -> FaceTrack:
    """The track moved and scaled until its landmarks lie over those `seen`, as a fit would have it."""
    index = torch.tensor(FACE_LANDMARKS)
    vertices = head.vertices(track.shape, track.expression, track.pose)
    points = head.landmark_points(vertices)[:, index]
    wanted = seen[index, :2]
    spread = (wanted - wanted.mean(0)).square().sum().sqrt()
    camera = track.camera
    for _ in range(steps):
        found = camera.project(points)[0]
        depth = found[:, 2].mean()
        here = found[:, :2]
        scale = (here - here.mean(0)).square().sum().sqrt() / spread
        view = camera.view.clone()
        off = (wanted.mean(0) - here.mean(0)) * depth / camera.intrinsics[0, 0]
        view[0, 0, 3] += off[0]
        view[0, 1, 3] -= off[1]
        view[0, 2, 3] -= depth * (scale - 1)
        camera = Camera(view, camera.intrinsics, camera.size)
    return replace(track, camera=camera)
