"""Small dense least-squares systems whose unknowns have limits, many at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def solve_in_box(
    matrix: Tensor,  # (F, Q, Q) symmetric, positive definite
    right: Tensor,  # (F, Q)
    low: Tensor,  # (F, Q), <= 0 where 0 is allowed; -inf for no limit
    high: Tensor,  # (F, Q)
    rounds: int = 4,
) -> Tensor:  # (F, Q) within the limits
    """Minimum of x A x / 2 - b x in the box, by an active set: unknowns that leave the box are held at its
    wall while the others are solved again; held ones that are pulled inwards are let go (Nocedal and Wright,
    16.5).

    A few rounds are enough inside Gauss-Newton, which starts again from the result.
    """
    step = torch.linalg.solve(matrix, right[..., None]).squeeze(-1)
    wall = step.clamp(low, high)
    held = wall != step
    for _ in range(rounds):
        if not bool(held.any()):
            return step
        step = _solve_free(matrix, right, wall, held)
        pull = right - (matrix @ step[..., None]).squeeze(-1)
        inwards = held & torch.where(wall >= high, pull < 0, pull > 0) & (low < high)
        outside = ~held & ((step < low) | (step > high))
        if not bool((inwards | outside).any()):
            return step
        wall = torch.where(outside, step.clamp(low, high), wall)
        held = (held & ~inwards) | outside
    return _solve_free(matrix, right, wall, held).clamp(low, high)


def held_at_wall(
    right: Tensor,  # (F, Q) pull on each unknown
    low: Tensor,  # (F, Q)
    high: Tensor,  # (F, Q)
) -> Tensor:  # (F, Q) bool
    """Unknowns that stand at a wall and are pulled further outwards."""
    return ((low >= 0) & (right < 0)) | ((high <= 0) & (right > 0))


def without(
    matrix: Tensor,  # (F, Q, Q)
    held: Tensor,  # (F, Q) bool
) -> Tensor:  # (F, Q, Q)
    """The matrix with the rows and columns of held unknowns replaced by the identity's."""
    free = (~held).to(matrix.dtype)
    out = matrix * free[:, :, None] * free[:, None, :]
    out.diagonal(dim1=1, dim2=2).add_(1 - free)
    return out


def _solve_free(matrix: Tensor, right: Tensor, wall: Tensor, held: Tensor) -> Tensor:
    fixed = torch.where(held, wall, torch.zeros_like(wall))
    rest = right - (matrix @ fixed[..., None]).squeeze(-1)
    return torch.linalg.solve(without(matrix, held), torch.where(held, fixed, rest)[..., None]).squeeze(-1)
