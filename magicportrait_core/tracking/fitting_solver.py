"""One Gauss-Newton step of the landmark fit: normal equations per frame, the shared shape by Schur
complement.

Unknowns of a frame: a small turn of the head (left of its rotation), its place in camera space, and its
motion coefficients (expression, then the jaw where it is a joint). The shape is one vector for all frames, so
the system is an arrow: eliminating the frames leaves S equations for the shape (Triggs et al. 2000, section
6.1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..head.skinning import axis_angle_to_matrix, matrix_to_axis_angle, skew
from .blendshape_prior import ExpressionPrior
from .landmark_model import LandmarkModel

RIGID = 6  # unknowns of a frame before its motion coefficients: turn, place
RIGID_DAMPING = 1e-6
ROBUST_SCALE = 3.0  # sigmas at which a landmark starts to lose influence (pseudo-Huber)
NEIGHBOUR_SIGMA = 0.1  # coefficient change between frames beyond which it counts as motion, not noise


@dataclass(frozen=True)
class FitProblem:
    """What was seen, and what is believed beforehand. F frames, all of them found."""

    model: LandmarkModel
    targets: Tensor  # (F, K, 2) pixels, y up, from the principal point
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
    frame: Tensor  # (F, Q, Q) with Q = 6 + P
    frame_right: Tensor  # (F, Q)
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
) -> FitState:
    """One step for all frames. Chunks only bound memory: the result does not depend on them."""
    smooth = _neighbour_term(problem, state)
    if not fit_shape:
        return _join(
            state, [_update(problem, state, c, _equations(problem, state, c, smooth, False)) for c in chunks]
        )
    parts = [(c, _eliminate(_equations(problem, state, c, smooth, True))) for c in chunks]
    precision = problem.shape_precision * problem.num_frames
    matrix = sum(p.reduced for _, p in parts) + precision * torch.eye(
        len(state.shape), dtype=state.shape.dtype
    )
    right = sum(p.reduced_right for _, p in parts) - precision * state.shape
    shift = torch.linalg.solve(matrix, right)
    moved = [_moved(problem, state.select(c), p.alone - p.by_shape @ shift) for c, p in parts]
    return replace(_join(state, moved), shape=state.shape + shift)


@dataclass(frozen=True)
class _Eliminated:
    reduced: Tensor  # (S, S)
    reduced_right: Tensor  # (S,)
    alone: Tensor  # (F, Q) step of the frames for a fixed shape
    by_shape: Tensor  # (F, Q, S)


def _eliminate(equations: NormalEquations) -> _Eliminated:
    solved = torch.linalg.solve(
        equations.frame, torch.cat((equations.cross, equations.frame_right[..., None]), -1)
    )
    by_shape, alone = solved[..., :-1], solved[..., -1]
    size = equations.cross.shape[-1]
    flat = equations.cross.reshape(-1, size)
    return _Eliminated(
        equations.shape - flat.T @ by_shape.reshape(-1, size),
        equations.shape_right - flat.T @ alone.reshape(-1),
        alone,
        by_shape,
    )


def _update(problem: FitProblem, state: FitState, chunk: Tensor, equations: NormalEquations) -> FitState:
    step = torch.linalg.solve(equations.frame, equations.frame_right[..., None]).squeeze(-1)
    return _moved(problem, state.select(chunk), step)


def _moved(problem: FitProblem, state: FitState, step: Tensor) -> FitState:
    motion = state.motion + step[:, RIGID:]
    size = problem.num_expression
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
    rows = jacobian.flatten(1, 2)  # (F, 2K, Q)
    weighted = rows * weight[..., None]
    matrix = weighted.transpose(1, 2) @ rows
    right = (weighted.transpose(1, 2) @ residual[..., None]).squeeze(-1)
    matrix.diagonal(dim1=1, dim2=2)[:, :RIGID] += RIGID_DAMPING
    diagonal, pull = _motion_terms(part, here, chunk, smooth)
    matrix.diagonal(dim1=1, dim2=2)[:, RIGID:] += diagonal
    right[:, RIGID:] += pull
    held = _held(part, here, right)
    if not with_shape:
        return _hold(NormalEquations(matrix, right), held)
    _, jaw = _split(part, here.motion)
    by_shape = _columns(to_local, part.model.shape_basis(jaw)).flatten(1, 2)  # (F, 2K, S)
    shape_weighted = by_shape * weight[..., None]
    flat = shape_weighted.flatten(0, 1)
    return _hold(
        NormalEquations(
            matrix,
            right,
            flat.T @ by_shape.flatten(0, 1),
            rows.transpose(1, 2) @ shape_weighted,
            flat.T @ residual.flatten(),
        ),
        held,
    )


def _linearise(part: FitProblem, here: FitState) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Jacobian (F, K, 2, Q), residual (F, 2K), weight (F, 2K), and pixels by local position (F, K, 2, 3)."""
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
    length = residual.norm(dim=-1) / part.sigma[:, None]
    robust = 1 / torch.sqrt(1 + (length / ROBUST_SCALE) ** 2)
    weight = part.model.weight * robust / part.sigma[:, None] ** 2
    jacobian = torch.cat((by_turn, by_camera, by_motion), -1)
    return jacobian, residual.flatten(1), weight.repeat_interleave(2, 1), to_local


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


def _held(part: FitProblem, here: FitState, right: Tensor) -> Tensor:
    """(F, P) bool: coefficients at a limit that want to cross it (the active set of the box)."""
    low, high = part.limits
    want = right[:, RIGID:]
    held = ((here.motion <= low) & (want < 0)) | ((here.motion >= high) & (want > 0))
    held[:, part.num_expression :] = False
    return held


def _hold(equations: NormalEquations, held: Tensor) -> NormalEquations:
    """The equations with the held coefficients taken out (their step is zero)."""
    free = torch.cat((held.new_ones(len(held), RIGID), ~held), 1).to(equations.frame.dtype)  # (F, Q)
    matrix = equations.frame * free[:, :, None] * free[:, None, :]
    matrix.diagonal(dim1=1, dim2=2).add_(1 - free)
    cross = None if equations.cross is None else equations.cross * free[..., None]
    return replace(equations, frame=matrix, frame_right=equations.frame_right * free, cross=cross)
