"""How far this person's eyes can close: the same blink on another face may push one lid through the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..head.model import HeadModel

LID_PAIRS = (
    ((160, 144), (159, 145), (158, 153)),
    ((387, 373), (386, 374), (385, 380)),
)  # right, left: upper, lower
BLINKS = ("eyeBlinkRight", "eyeBlinkLeft")
CLOSED = 0.0  # metres between the lids of a closed eye


@dataclass(frozen=True)
class BlinkLimit:
    """The opening of both eyes is linear in the expression: opening = rest + slope . expression, metres."""

    rest: Tensor  # (2,)
    slope: Tensor  # (2, E)
    index: tuple[int, int]  # of eyeBlinkRight and eyeBlinkLeft

    def apply(
        self,
        expression: Tensor,  # (1, E)
        portrait: Tensor,  # (1, E) never changed where the target asks for no more than this
    ) -> Tensor:  # (1, E)
        """The expression with blinks that stop when the eye is closed."""
        opening = self.rest + self.slope @ expression[0]
        limited = expression.clone()
        for eye, column in enumerate(self.index):
            per_unit = float(-self.slope[eye, column])
            excess = (CLOSED - float(opening[eye])) / per_unit if per_unit > 0 else 0.0
            room = float(expression[0, column] - portrait[0, column])
            if excess > 0 and room > 0:
                limited[0, column] -= min(excess, room)
        return limited


def blink_limit(
    head: HeadModel,
    shape: Tensor,  # (1, S)
    offsets: Tensor,  # (V, 3)
) -> BlinkLimit | None:
    """None for heads whose expressions have no blinks of their own."""
    if not set(BLINKS) <= set(head.expression_names):
        return None
    rest = head.rest_vertices(shape, head.template.new_zeros(1, head.num_expression)) + offsets
    return BlinkLimit(
        rest=_openings(head, rest)[0],
        slope=_openings(head, head.expression_basis).T,
        index=tuple(head.expression_index(name) for name in BLINKS),
    )


def _openings(head: HeadModel, vertices: Tensor) -> Tensor:  # (B, 2) height of the right and the left opening
    points = head.landmark_points(vertices)[..., 1]
    return torch.stack(
        [torch.stack([points[:, up] - points[:, low] for up, low in pairs]).mean(0) for pairs in LID_PAIRS],
        dim=1,
    )
