"""One Gauss-Newton step of the landmark fit: normal equations per frame, the shared shape by Schur
complement.

Unknowns of a frame: a small turn of the head (left of its rotation), its place in camera space, and its
motion coefficients (expression, then the jaw where it is a joint). The shape is one vector for all frames, so
the system is an arrow: eliminating the frames leaves S equations for the shape (Triggs et al. 2000, section
6.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..head.skinning import axis_angle_to_matrix, matrix_to_axis_angle, skew
from .blendshape_prior import ExpressionPrior
from .box_solver import held_at_wall, solve_in_box, without
from .landmark_model import LandmarkModel

RIGID = 6  # unknowns of a frame before its motion coefficients: turn, place
RIGID_DAMPING = 1e-6
ROBUST_SCALE = 3.0  # sigmas at which a landmark starts to lose influence (pseudo-Huber)
PAIR_WEIGHT = 3.0  # of the distance across an opening, beside one landmark: errors of neighbours are alike
NEIGHBOUR_SIGMA = 0.1  # coefficient change between frames beyond which it counts as motion, not noise


@dataclass(frozen=True)
class FitProblem:
    """What was seen, and what is believed beforehand. F frames, all of them found."""

    model: LandmarkModel
    targets: Tensor  # (F, K, 2) pixels, y up, from the principal point
    seen: Tensor  # (F, K) 0..1, how far each landmark counts in each frame: 0 where it is covered
    aim: Tensor  # (F, 2) pixels, y up, the principal point from the picture's middle
    focal: float  # pixels
    eye_distance: Tensor  # (F,) pixels between the outer eye corners, as if the face looked at the viewer
    noise: float  # expected landmark error, share of the eye distance
    prior: ExpressionPrior
    limits: tuple[float, float]  # of expression coefficients
    time: Tensor  # (F,) int64, frame numbers: neighbours differ by one
    smoothness: float
    shape_precision: float  # of the Gaussian on the shape, for each frame
    num_expression: int

    @property
    def num_frames(self) -> int:
        return self.targets.shape[0]

    @property
    def sigma(self) -> Tensor:  # (F,) pixels, expected landmark error
        return self.noise * self.eye_distance

    def select(self, frames: Tensor) -> FitProblem:
        return replace(
            self,
            targets=self.targets[frames],
            seen=self.seen[frames],
            aim=self.aim[frames],
            eye_distance=self.eye_distance[frames],
            prior=replace(self.prior, mean=self.prior.mean[frames]),
            time=self.time[frames],
        )


@dataclass(frozen=True)
class FitState:
    shape: Tensor  # (S,)
    rotation: Tensor  # (F, 3, 3) of the head about the model's centre
    place: Tensor  # (F, 3) of the centre in camera space, metres
    motion: Tensor  # (F, P) expression, then jaw axis-angle where it is a joint

    def select(self, frames: Tensor) -> FitState:
        return replace(
            self, rotation=self.rotation[frames], place=self.place[frames], motion=self.motion[frames]
        )


@dataclass(frozen=True)
class NormalEquations:
    """Of some frames: matrix and right side of each frame's own unknowns, and what ties them to the shape."""

    matrix: Tensor  # (F, Q, Q) with Q = 6 + P
    right: Tensor  # (F, Q)
    low: Tensor  # (F, Q) limits of the step
    high: Tensor  # (F, Q)
    shape: Tensor | None = None  # (S, S)
    cross: Tensor | None = None  # (F, Q, S)
    shape_right: Tensor | None = None  # (S,)


def predict(
    problem: FitProblem, state: FitState
) -> tuple[Tensor, Tensor]:  # (F, K, 2) pixels from the principal point, y up; (F, K, 3) camera space
    expression, jaw = _split(problem, state.motion)
    local = problem.model.points(state.shape, expression, jaw)
    camera = local @ state.rotation.transpose(-1, -2) + state.place[:, None]
    return problem.focal * camera[..., :2] / -camera[..., 2:], camera


def gauss_newton_step(
    problem: FitProblem,
    state: FitState,
    chunks: list[Tensor],  # frame numbers; their union is all frames
    fit_shape: bool,
    on_chunk: Callable[[], None],  # after each chunk; may raise to cancel
) -> FitState:
    """One step for all frames. Chunks only bound memory: the result does not depend on them."""
    smooth = _neighbour_term(problem, state)
    parts, equations = [], []
    for chunk in chunks:
        part = _equations(problem, state, chunk, smooth, fit_shape)
        if fit_shape:
            equations.append(part)
        else:
            parts.append(_moved(problem, state, chunk, part, None))
        on_chunk()
    if not fit_shape:
        return _join(state, parts)
    shift = _shape_step(problem, state, equations)
    parts = [_moved(problem, state, c, e, shift) for c, e in zip(chunks, equations, strict=True)]
    return replace(_join(state, parts), shape=state.shape + shift)


def _shape_step(problem: FitProblem, state: FitState, equations: list[NormalEquations]) -> Tensor:  # (S,)
    """The shape's step after the frames are eliminated (Schur complement), plus the pull of its prior."""
    precision = problem.shape_precision * problem.num_frames
    matrix = precision * torch.eye(len(state.shape), dtype=state.shape.dtype)
    right = -precision * state.shape
    for part in equations:
        held = held_at_wall(part.right, part.low, part.high)
        cross = part.cross.masked_fill(held[..., None], 0.0)
        own = part.right.masked_fill(held, 0.0)
        solved = torch.linalg.solve(without(part.matrix, held), torch.cat((cross, own[..., None]), -1))
        eliminated = cross.flatten(0, 1).T @ solved.flatten(0, 1)  # (S, S + 1)
        matrix = matrix + part.shape - eliminated[:, :-1]
        right = right + part.shape_right - eliminated[:, -1]
    return torch.linalg.solve(matrix, right)


def _moved(
    problem: FitProblem, state: FitState, chunk: Tensor, equations: NormalEquations, shift: Tensor | None
) -> FitState:
    """The frames of a chunk after their step, for a shape that moves by `shift`."""
    right = equations.right if shift is None else equations.right - equations.cross @ shift
    step = solve_in_box(equations.matrix, right, equations.low, equations.high)
    state, size = state.select(chunk), problem.num_expression
    motion = state.motion + step[:, RIGID:]
    parts = [motion[:, :size].clamp(*problem.limits)]
    if problem.model.jaw:
        turn = axis_angle_to_matrix(step[:, RIGID + size :]) @ axis_angle_to_matrix(state.motion[:, size:])
        parts.append(matrix_to_axis_angle(turn))
    return replace(
        state,
        rotation=axis_angle_to_matrix(step[:, :3]) @ state.rotation,
        place=state.place + step[:, 3:RIGID],
        motion=torch.cat(parts, 1),
    )


def _join(state: FitState, parts: list[FitState]) -> FitState:
    fields = ("rotation", "place", "motion")
    return replace(state, **{name: torch.cat([getattr(p, name) for p in parts]) for name in fields})


def _split(problem: FitProblem, motion: Tensor) -> tuple[Tensor, Tensor]:
    return motion[:, : problem.num_expression], motion[:, problem.num_expression :]


def _neighbour_term(problem: FitProblem, state: FitState) -> tuple[Tensor, Tensor] | None:
    """Pull of each coefficient towards the mean of its neighbours in time: (precision, target), both (F, P).

    A coefficient that moves much more than the noise (a blink) is let go, so its peak stays.
    """
    if problem.smoothness == 0 or problem.num_frames < 3:
        return None
    motion, time = state.motion, problem.time
    target, linked = motion.clone(), torch.zeros(len(motion), dtype=torch.bool)
    inner = (time[2:] - time[:-2]) == 2
    target[1:-1] = torch.where(inner[:, None], (motion[2:] + motion[:-2]) / 2, motion[1:-1])
    linked[1:-1] = inner
    let_go = 1 / (1 + ((target - motion) / NEIGHBOUR_SIGMA) ** 2) ** 2
    return let_go * linked[:, None] * (problem.smoothness / NEIGHBOUR_SIGMA**2), target


def _equations(
    problem: FitProblem,
    state: FitState,
    chunk: Tensor,
    smooth: tuple[Tensor, Tensor] | None,
    with_shape: bool,
) -> NormalEquations:
    part, here = problem.select(chunk), state.select(chunk)
    jacobian, residual, weight, to_local = _linearise(part, here)
    rows = jacobian.flatten(1, 2)  # (F, R, Q)
    weighted = rows * weight[..., None]
    matrix = weighted.transpose(1, 2) @ rows
    right = (weighted.transpose(1, 2) @ residual[..., None]).squeeze(-1)
    matrix.diagonal(dim1=1, dim2=2)[:, :RIGID] += RIGID_DAMPING
    diagonal, pull = _motion_terms(part, here, chunk, smooth)
    matrix.diagonal(dim1=1, dim2=2)[:, RIGID:] += diagonal
    right[:, RIGID:] += pull
    low, high = _step_limits(part, here)
    if not with_shape:
        return NormalEquations(matrix, right, low, high)
    _, jaw = _split(part, here.motion)
    by_shape = _with_pairs(part, _columns(to_local, part.model.shape_basis(jaw))).flatten(1, 2)  # (F, R, S)
    shape_weighted = by_shape * weight[..., None]
    flat = shape_weighted.flatten(0, 1)
    return NormalEquations(
        matrix,
        right,
        low,
        high,
        shape=flat.T @ by_shape.flatten(0, 1),
        cross=rows.transpose(1, 2) @ shape_weighted,
        shape_right=flat.T @ residual.flatten(),
    )


def _linearise(part: FitProblem, here: FitState) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Jacobian (F, K + P, 2, Q), residual and weight (F, R), and pixels by local position (F, K, 2, 3).

    R = 2 (K + P) rows: the landmarks, then the distances of pairs across an opening.
    """
    seen, camera = predict(part, here)
    residual = part.targets - seen
    depth = -camera[..., 2]
    scale = part.focal / depth
    zero = torch.zeros_like(scale)
    by_camera = torch.stack(
        (
            torch.stack((scale, zero, seen[..., 0] / depth), -1),
            torch.stack((zero, scale, seen[..., 1] / depth), -1),
        ),
        -2,
    )  # (F, K, 2, 3)
    by_turn = by_camera @ -skew(camera - here.place[:, None])
    to_local = by_camera @ here.rotation[:, None]
    expression, jaw = _split(part, here.motion)
    by_motion = _columns(to_local, part.model.motion_basis(here.shape, expression, jaw))
    residual = _with_pairs(part, residual)
    length = residual.norm(dim=-1) / part.sigma[:, None]
    robust = 1 / torch.sqrt(1 + (length / ROBUST_SCALE) ** 2)
    own = part.model.weight * part.seen  # (F, K)
    share = torch.cat((own, PAIR_WEIGHT * own[:, part.model.pairs].amin(-1)), 1)
    weight = share * robust / part.sigma[:, None] ** 2
    jacobian = _with_pairs(part, torch.cat((by_turn, by_camera, by_motion), -1))
    return jacobian, residual.flatten(1), weight.repeat_interleave(2, 1), to_local


def _with_pairs(
    part: FitProblem,
    values: Tensor,  # (F, K, ...) of landmarks
) -> Tensor:  # (F, K + P, ...) and of the differences of facing landmarks
    first, second = part.model.pairs.unbind(1)
    return torch.cat((values, values[:, first] - values[:, second]), 1)


def _columns(
    to_local: Tensor,  # (F, K, 2, 3)
    basis: Tensor,  # (F or 1, K, 3, N)
) -> Tensor:  # (F, K, 2, N): to_local @ basis, three multiplications of large arrays beat many tiny products
    out = to_local[..., 0, None] * basis[:, :, None, 0]
    out.addcmul_(to_local[..., 1, None], basis[:, :, None, 1])
    return out.addcmul_(to_local[..., 2, None], basis[:, :, None, 2])


def _motion_terms(
    part: FitProblem, here: FitState, chunk: Tensor, smooth: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Precision (F, P) and pull (F, P) of the prior and of the neighbours in time."""
    diagonal = part.prior.precision.expand_as(here.motion)
    pull = diagonal * (part.prior.mean - here.motion)
    if smooth is None:
        return diagonal, pull
    precision, target = smooth[0][chunk], smooth[1][chunk]
    return diagonal + precision, pull + precision * (target - here.motion)


def _step_limits(part: FitProblem, here: FitState) -> tuple[Tensor, Tensor]:  # (F, Q) each
    low = torch.full((len(here.motion), RIGID + here.motion.shape[1]), -torch.inf, dtype=here.motion.dtype)
    high = -low
    expression = slice(RIGID, RIGID + part.num_expression)
    low[:, expression] = part.limits[0] - here.motion[:, : part.num_expression]
    high[:, expression] = part.limits[1] - here.motion[:, : part.num_expression]
    return low, high
