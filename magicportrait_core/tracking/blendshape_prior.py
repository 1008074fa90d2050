"""What the tracker's 52 blendshape scores say about a head's expression before the landmarks are fitted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..head.model import HeadModel
from .landmarker_networks import BLENDSHAPE_NAMES

ARKIT_SIGMA = 0.25  # how far a fitted ARKit coefficient usually is from the tracker's score
UNSEEN_SIGMA = 0.02  # gaze and tongue: the face points hardly show them, so the score decides
JAW_SIGMA = (0.25, 0.03, 0.03)  # radians: opening; turning and tilting sideways
UNSEEN = ("eyeLook", "tongueOut")  # beginnings of expression names


@dataclass(frozen=True)
class ExpressionPrior:
    """A Gaussian on the expression of each frame (and the jaw, where it is a joint)."""

    mean: Tensor  # (F, P)
    precision: Tensor  # (P,) 1 / sigma^2
    named: bool  # True: the mean comes from blendshape scores


def expression_prior(
    head: HeadModel,
    blendshapes: Tensor,  # (F, 52) MediaPipe order
    strength: float,
) -> ExpressionPrior:
    """Expression coefficients with ARKit names follow the scores; others stay near zero, one standard
    deviation.

    P = E, or E + 3 for heads whose jaw is a joint.
    """
    column = {name: i for i, name in enumerate(BLENDSHAPE_NAMES)}
    named = any(name in column for name in head.expression_names)
    frames = blendshapes.shape[0]
    mean = torch.zeros(frames, head.num_expression, dtype=torch.float64)
    sigma = torch.ones(head.num_expression, dtype=torch.float64)
    if named:
        scores = blendshapes.to("cpu", torch.float64).nan_to_num(0.0)
        for i, name in enumerate(head.expression_names):
            sigma[i] = UNSEEN_SIGMA if name.startswith(UNSEEN) else ARKIT_SIGMA
            if name in column:
                mean[:, i] = scores[:, column[name]]
    precision = strength / sigma**2
    if not head.jaw_in_expression:
        mean = torch.cat((mean, mean.new_zeros(frames, 3)), 1)
        precision = torch.cat((precision, strength / torch.tensor(JAW_SIGMA, dtype=torch.float64) ** 2))
    return ExpressionPrior(mean, precision, named)
