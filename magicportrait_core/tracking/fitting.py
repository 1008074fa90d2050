"""Fit a head model to the landmarks of a clip: one shape for the person, pose and expression for each frame.

Gauss-Newton in float64 on the CPU (a few milliseconds a frame; float32 loses the pose of small faces), with a
perspective camera of fixed field of view that looks at the face: its principal point lies at the face, so
that the fitted rotation counts from the line of sight, and neither it nor the shape depends on where in the
picture the face is. The shape comes from at most `shape_frames` frames spread over the clip; every frame is
then solved with that shape, in chunks, so memory does not grow with the clip. Frames in which the same was
seen, number for number, are solved once and get the same values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..head.model import HeadModel
from ..head.skinning import matrix_to_axis_angle
from ..rendering.camera import Camera
from .blendshape_prior import expression_prior
from .covers import zone_landmarks
from .fitting_solver import FitProblem, FitState, gauss_newton_step, predict
from .landmark_model import LandmarkModel, landmark_model
from .observation import NUM_LANDMARKS, FaceObservations
from .rigid import similarity_transform
from .track import NUM_JOINTS, FaceTrack

OnStep = Callable[[int, int], None]  # (parts done, parts in all), some milliseconds each; may raise to cancel
IRISES = tuple(range(468, 478))  # the head does not follow its eyeballs
FULL_FACE = 478  # the shape prior is stated for this many landmarks
MAX_SHAPE_TURN = 0.6  # radians from the viewer: beyond, half the face is a guess of the network


@dataclass(frozen=True)
class FitOptions:
    """How a head model is fitted; the defaults were chosen by measurement (benchmarks/tracking.py)."""

    field_of_view: float = 30.0  # degrees, vertical; 15 to 60 change the error little, but the shape's depth
    max_shape: int = 100  # identity coefficients to use, at most
    shape_prior: float = 1.0  # pull towards the average person, for each frame
    portrait_shape_prior: float = 2.0  # the same when there is a single frame
    expression_prior: float = 1.0  # pull towards the tracker's scores (ARKit) or towards rest (FLAME)
    smoothness: float = (
        0.3  # pull of each frame's expression towards its neighbours; 0: frames are independent
    )
    landmark_noise: float = 0.012  # expected landmark error, share of the outer-eye distance
    spread_scale: float = 0.003  # metres of calibration spread at which a landmark counts half
    shape_steps: int = 4
    frame_steps: int = 1
    shape_frames: int = 120  # frames that decide the shape, at most
    chunk: int = 8  # frames solved together: bounds memory, and few stay in the processor's cache

    def __post_init__(self):
        if not 1 <= self.field_of_view <= 120:
            raise ValueError(f"field_of_view={self.field_of_view} degrees; expected 1 to 120")
        for name in ("shape_prior", "portrait_shape_prior", "expression_prior", "smoothness"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)}; expected 0 or more")
        for name in ("landmark_noise", "spread_scale", "max_shape", "shape_steps", "shape_frames", "chunk"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}; expected more than 0")
        if self.frame_steps < 0:
            raise ValueError(f"frame_steps={self.frame_steps}; expected 0 or more")


def fit_track(
    head: HeadModel,
    observations: FaceObservations,
    options: FitOptions | None = None,
    on_step: OnStep | None = None,
) -> FaceTrack:
    """The head's shape, and its pose and expression in every frame where the face was found.

    Rows of other frames hold NaN; `fill_missing` gives them values by a policy. `pose[:, 0]` is the head
    rotation about the head's root joint, the camera's view only moves it. Errors are in percent of the
    outer-eye distance (measured on the head, so that it does not shrink when the face turns). Works under
    torch.inference_mode.
    """
    options = options or FitOptions()
    on_step = on_step or _ignore
    moments = _moments(observations)
    if len(moments.frames) == 0:
        raise ValueError(
            f"no face was found in any of the {observations.num_frames} frames, so there is nothing to "
            "fit; use "
            "pictures in which a face is visible and at least 32 pixels wide"
        )
    model = landmark_model(head, options.max_shape, options.spread_scale, IRISES)
    problem, state = _set_up(head, model, observations, moments, options)
    state = _solve(problem, state, options, on_step)
    return _as_track(head, model, observations, moments, problem, state)


def focal_length(field_of_view: float, height: int) -> float:
    """Focal length in pixels of a camera that sees `field_of_view` degrees over `height` pixels."""
    return 0.5 * height / math.tan(math.radians(field_of_view) / 2)


def _ignore(done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class _Moments:
    """The frames with a face, and which of them show something new."""

    frames: Tensor  # (N,) int64, frames with a face
    first: Tensor  # (M,) int64, those in which something else was seen than in the one before
    row: Tensor  # (N,) int64, place in `first` of the moment that each frame shows
    time: Tensor  # (M,) int64, frame numbers as if each moment were shown once; gaps without a face stay


def _moments(observations: FaceObservations) -> _Moments:
    points, scores = observations.points.cpu(), observations.blendshapes.cpu()
    frames = (observations.found.cpu() & points.isfinite().all(-1).all(-1)).nonzero().squeeze(1)
    seen = [points.flatten(1), scores]
    if observations.covered is not None:
        seen.append(observations.covered.cpu().float())
    seen = torch.cat(seen, 1)[frames]
    new = torch.ones(len(frames), dtype=torch.bool)
    new[1:] = (seen[1:] != seen[:-1]).any(1)
    row = new.long().cumsum(0) - 1
    repeats = torch.arange(len(frames)) - row
    return _Moments(frames, frames[new], row, (frames - repeats)[new])


def _set_up(
    head: HeadModel,
    model: LandmarkModel,
    observations: FaceObservations,
    moments: _Moments,
    options: FitOptions,
) -> tuple[FitProblem, FitState]:
    """The problem of the found frames, and a start: the average head placed on the three-dimensional
    landmarks.
    """
    height, width = observations.size
    frames = moments.first
    focal = focal_length(options.field_of_view, height)
    points = observations.points.cpu().double()[frames][:, model.index]  # (F, K, 3)
    centred = (points - points.new_tensor([width / 2, height / 2, 0.0])) * points.new_tensor(
        [1.0, -1.0, -1.0]
    )
    prior = expression_prior(
        head, observations.blendshapes[frames.to(observations.blendshapes.device)], options.expression_prior
    )
    rest = model.whole.template - model.centre
    seen = _visible(head, observations, frames)[:, model.index].double()
    scale, rotation, shift = similarity_transform(rest, centred, model.weight * seen)
    depth = focal / scale  # metres at which the head has the size of the face
    aim = shift[:, :2]
    place = torch.stack((torch.zeros_like(depth), torch.zeros_like(depth), -depth), -1)
    shape_prior = options.portrait_shape_prior if len(frames) == 1 else options.shape_prior
    problem = FitProblem(
        model=model,
        targets=centred[..., :2] - aim[:, None],
        seen=seen,
        aim=aim,
        focal=focal,
        eye_distance=model.eye_distance * scale,
        noise=options.landmark_noise,
        prior=prior,
        limits=head.expression_limits,
        time=moments.time,
        smoothness=options.smoothness,
        shape_precision=shape_prior * len(model.index) / FULL_FACE,
        num_expression=head.num_expression,
    )
    shape = torch.zeros(model.whole.shape.shape[-1], dtype=torch.float64)
    return problem, FitState(shape, rotation, place, prior.mean.clone())


def _visible(head: HeadModel, observations: FaceObservations, frames: Tensor) -> Tensor:  # (F, 478) bool
    """Landmarks that the network saw rather than guessed under a cover."""
    if observations.covered is None:
        return torch.ones(len(frames), NUM_LANDMARKS, dtype=torch.bool)
    hidden = zone_landmarks(head.landmark_points(head.template[None])[0].cpu())  # (Z, 478)
    return ~(observations.covered.cpu()[frames][..., None] & hidden).any(1)


def _solve(problem: FitProblem, state: FitState, options: FitOptions, on_step: OnStep) -> FitState:
    chosen = _shape_frames(problem, state, options.shape_frames)
    everything = len(chosen) == problem.num_frames
    shape_steps, frame_steps = 2 + options.shape_steps, options.frame_steps + (0 if everything else 2)
    part, solved = problem.select(chosen), state.select(chosen)
    part_chunks, chunks = _chunks(part, options.chunk), _chunks(problem, options.chunk)
    steps = itertools.count(1)
    total = shape_steps * len(part_chunks) + frame_steps * len(chunks)

    def count() -> None:
        on_step(next(steps), total)

    for step in range(shape_steps):  # two steps of pose and expression before the shape may move
        solved = gauss_newton_step(part, solved, part_chunks, step >= 2, count)
    state = solved if everything else _with_shape(state, solved, chosen)
    for _ in range(frame_steps):
        state = gauss_newton_step(problem, state, chunks, False, count)
    return state


def _with_shape(state: FitState, solved: FitState, chosen: Tensor) -> FitState:
    """All frames' start, with the shape and the frames that are solved already."""
    rotation, place, motion = state.rotation.clone(), state.place.clone(), state.motion.clone()
    rotation[chosen], place[chosen], motion[chosen] = solved.rotation, solved.place, solved.motion
    return FitState(solved.shape, rotation, place, motion)


def _chunks(problem: FitProblem, size: int) -> list[Tensor]:
    return list(torch.arange(problem.num_frames).split(size))


def _shape_frames(problem: FitProblem, state: FitState, limit: int) -> Tensor:
    """Frames that decide the shape: spread over the clip, facing the viewer where the clip allows."""
    facing = state.rotation[:, 2, 2] > math.cos(MAX_SHAPE_TURN)
    candidates = torch.arange(problem.num_frames)
    if facing.sum() >= min(limit, max(1, problem.num_frames // 4)):
        candidates = candidates[facing]
    if len(candidates) <= limit:
        return candidates
    return candidates[torch.linspace(0, len(candidates) - 1, limit).round().long()]


def _as_track(
    head: HeadModel,
    model: LandmarkModel,
    observations: FaceObservations,
    moments: _Moments,
    problem: FitProblem,
    state: FitState,
) -> FaceTrack:
    size, count = head.num_expression, observations.num_frames
    seen = torch.cat([predict(problem.select(c), state.select(c))[0] for c in _chunks(problem, 256)])
    off = (seen - problem.targets).norm(dim=-1) * problem.seen
    error = off.sum(1) / problem.seen.sum(1) / problem.eye_distance * 100
    pose = torch.zeros(problem.num_frames, NUM_JOINTS, 3, dtype=torch.float64)
    pose[:, 0] = matrix_to_axis_angle(state.rotation)
    if model.jaw:
        pose[:, 2] = state.motion[:, size:]
    expression = state.motion[:, :size]
    root = model.joints.points(state.shape, expression)[:, 0]  # the head turns about its root joint
    turned = (state.rotation @ (root - model.centre)[..., None]).squeeze(-1)
    view = torch.cat(
        (
            torch.eye(3, dtype=torch.float64).expand(problem.num_frames, 3, 3),
            (state.place + turned - root)[..., None],
        ),
        -1,
    )
    height, width = observations.size
    middle = problem.aim.new_tensor([problem.focal, width / 2, height / 2])
    aim = torch.stack((torch.zeros_like(problem.aim[:, 0]), problem.aim[:, 0], -problem.aim[:, 1]), 1)
    full_shape = torch.zeros(1, head.num_shape, dtype=torch.float64)
    full_shape[0, : len(state.shape)] = state.shape
    device = observations.points.device

    def rows(values: Tensor, missing: Tensor | float = math.nan) -> Tensor:
        out = torch.empty(count, *values.shape[1:])
        out[:] = torch.as_tensor(missing).float()
        out[moments.frames] = values.float()[moments.row]
        return out.to(device)

    found = torch.zeros(count, dtype=torch.bool)
    found[moments.frames] = True
    return FaceTrack(
        head=head.name,
        shape=full_shape.float().to(device),
        expression=rows(expression),
        pose=rows(pose),
        eyelids=torch.zeros(count, 2, device=device),
        camera=Camera(
            view=rows(view),
            intrinsics=rows(middle + aim, missing=middle),
            size=observations.size,
        ),
        fps=observations.fps,
        confidence=torch.where(found.to(device), observations.presence, 0.0).float(),
        found=found.to(device),
        error=rows(error),
        face_index=observations.face_index,
        landmarks=observations.points.float(),
        expression_names=head.expression_names,
        covered=observations.covered,
    )
