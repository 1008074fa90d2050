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
# The score of a blink saturates: renders of the open head with these lid coefficients were scored so. The
# sigma of lids is narrower: a nearly closed eye looks wrong long before its points are far off.
BLINK = "eyeBlink"
BLINK_SIGMA = 0.12
BLINK_SCORES = (0.05, 0.15, 0.40, 0.62, 0.69, 0.75)
BLINK_COEFFICIENTS = (0.0, 0.2, 0.5, 0.66, 0.8, 1.0)
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
        scores = blendshapes.cpu().double().nan_to_num(0.0)
        for i, name in enumerate(head.expression_names):
            sigma[i] = UNSEEN_SIGMA if name.startswith(UNSEEN) else ARKIT_SIGMA
            if name in column:
                mean[:, i] = scores[:, column[name]]
            if name.startswith(BLINK):
                sigma[i], mean[:, i] = BLINK_SIGMA, lid_coefficient(mean[:, i])
    precision = strength / sigma**2
    if not head.jaw_in_expression:
        mean = torch.cat((mean, mean.new_zeros(frames, 3)), 1)
        precision = torch.cat((precision, strength / torch.tensor(JAW_SIGMA, dtype=torch.float64) ** 2))
    return ExpressionPrior(mean, precision, named)


def lid_coefficient(
    score: Tensor,  # (F,)
) -> Tensor:  # (F,) 0..1
    """The eyeBlink coefficient of the open head that the network would score so."""
    knots = score.new_tensor(BLINK_SCORES)
    values = score.new_tensor(BLINK_COEFFICIENTS)
    right = torch.searchsorted(knots, score.contiguous()).clamp(1, len(knots) - 1)
    share = ((score - knots[right - 1]) / (knots[right] - knots[right - 1])).clamp(0, 1)
    return torch.lerp(values[right - 1], values[right], share)
