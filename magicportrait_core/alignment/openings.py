"""Opening of mouth and lids as a share of each person's own range.

Equal coefficients open the mouths of two people by equal millimetres, not by equal shares: small eyes would
never widen and large ones never shut. Three openings of the driver (shut, at rest, widest) stand for those of
the portrait, and what lies between is led linearly from one to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..head.model import HeadModel
from ..tracking.landmark_model import LIDS, LIPS

# Right eye, left eye, mouth: landmarks that face each other, coefficients that correct and that widen.
PAIRS = (LIDS[:5], LIDS[5:], LIPS)
CORRECTED_BY = ("eyeBlinkRight", "eyeBlinkLeft", "jawOpen")
WIDENED_BY = ("eyeWideRight", "eyeWideLeft", "jawOpen")
EYES, MOUTH = slice(0, 2), 2
WIDEST = 0.95  # quantile of a clip that counts as a person's widest
LARGEST_REST = 0.001  # metres between the lips of a mouth at rest, at most
LEAST = 1e-4  # metres; a smaller opening has no shares, a smaller correction is rounding
# Share of its opening at rest to which an eye that is nearly shut is led, per share of the driver's; less is
# taken away the wider they are. The head's lids alone look more open than a driver's: without this, eyes
# that were .37, .57 and .75 open in drivers were seen .62, .70 and .81 open in 19 portraits.
NEARLY_SHUT = 0.1
COVERED_BY_LIPS = 0.0030  # metres of a mouth's opening that lips are seen to cover (.09, .11, .25 asked: .05,
# .07, .20 seen, of the distance of the outer eye corners; 18 portraits)
OPEN_LIPS = 0.0035  # metres of opening from which all of that is added
# Difference of both lids' openings, as a share of the range, that is noise (both eyes move alike) and that is
# a wink.
ALIKE, WINK = 0.15, 0.45


@dataclass(frozen=True)
class Openings:
    """Height of the eyes' and the mouth's opening on one person's unposed head: linear in the expression.

    The mouth's is measured beyond that of the plain face, whose lips touch although the landmarks of their
    inner edges lie two millimetres apart.
    """

    rest: Tensor  # (3,) metres
    slope: Tensor  # (3, E)
    widest: Tensor  # (3,) metres, with the widening coefficient at 1
    columns: tuple[int, int, int]  # of CORRECTED_BY

    @classmethod
    def of(
        cls,
        head: HeadModel,
        shape: Tensor,  # (1, S)
    ) -> Openings:
        """Measure a head with ARKit expressions."""
        still = head.rest_vertices(shape, head.template.new_zeros(1, head.num_expression))
        rest, slope = _heights(head, still)[0], _heights(head, head.expression_basis).T
        rest = torch.cat((rest[EYES], torch.zeros_like(rest[MOUTH:])))
        wide = [head.expression_index(name) for name in WIDENED_BY]
        widest = rest + slope[torch.arange(3), wide]
        return cls(rest, slope, widest, tuple(head.expression_index(name) for name in CORRECTED_BY))

    def at(
        self,
        expression: Tensor,  # (F, E)
    ) -> Tensor:  # (F, 3) metres, 0 where shut
        """Return the openings of an expression."""
        return (self.rest + expression @ self.slope.T).clamp(min=0)


def corrected_openings(
    expression: Tensor,  # (F, E) what the portrait is to show, coefficients as they were transferred
    portrait: Openings,
    own: Tensor,  # (1, E) of the photo
    own_rest: Tensor,  # (1, E)
    driver: Openings,
    driving: Tensor,  # (F, E)
    driving_rest: Tensor,  # (1, E)
) -> Tensor:  # (F, E)
    """Change blinks and jaw so that each opening is the driver's share of the portrait's own range."""
    wanted = _wanted(portrait, own, own_rest, driver, driving, driving_rest)
    corrected = expression.clone()
    missing = wanted - portrait.at(expression)
    for which, column in enumerate(portrait.columns):
        per_unit = portrait.slope[which, column]
        step = torch.where(missing[:, which].abs() > LEAST, missing[:, which] / per_unit, 0.0)
        corrected[:, column] = (expression[:, column] + step).clamp(0, 1)
    return _lips_shut(portrait, corrected, wanted[:, MOUTH])


def _lips_shut(portrait: Openings, expression: Tensor, wanted: Tensor) -> Tensor:
    """Lessen what else parts the lips where a shut jaw alone leaves them more open than wanted."""
    parts = portrait.slope[MOUTH].clamp(min=0) * expression  # (F, E) metres
    parts[:, portrait.columns[MOUTH]] = 0
    excess = expression @ portrait.slope[MOUTH] - wanted
    share = (excess / parts.sum(1).clamp(min=LEAST)).clamp(0, 1)
    share = torch.where(excess > LEAST, share, torch.zeros_like(share))
    return torch.where(parts > 0, expression * (1 - share[:, None]), expression)


def _wanted(
    portrait: Openings, own: Tensor, own_rest: Tensor, driver: Openings, driving: Tensor, driving_rest: Tensor
) -> Tensor:  # (F, 3) metres
    shown, shown_rest = driver.at(driving), driver.at(driving_rest)[0]
    shown_rest = torch.cat((shown_rest[EYES], shown_rest[MOUTH:].clamp(max=LARGEST_REST)))
    widest = torch.maximum(shown.quantile(WIDEST, dim=0), driver.widest)
    photo, rest = portrait.at(own)[0], portrait.at(own_rest)[0]
    # The wider a photo's mouth is open, or the further its eyes are shut, the less of that counts as rest.
    beyond = photo - rest
    eyes = (rest - beyond.clamp(max=0)).minimum(torch.maximum(rest, portrait.rest))[EYES]
    rest = torch.cat((eyes, (rest - beyond.clamp(min=0)).clamp(min=0)[MOUTH:]))
    most = torch.maximum(portrait.widest, rest)
    below = (shown / shown_rest.clamp(min=LEAST)).clamp(max=1)
    above = ((shown - shown_rest) / (widest - shown_rest).clamp(min=LEAST)).clamp(min=0)
    below = torch.where(shown_rest > LEAST, below, torch.ones_like(below))
    below[:, EYES] *= NEARLY_SHUT + (1 - NEARLY_SHUT) * below[:, EYES]
    below, above = _even_lids(below), _even_lids(above)
    opened = above * (most - rest)
    opened[:, MOUTH] += COVERED_BY_LIPS * (opened[:, MOUTH] / OPEN_LIPS).clamp(0, 1)
    return below * rest + opened


def _even_lids(share: Tensor) -> Tensor:
    """Both eyes' mean where they differ by no more than noise, each its own where one winks."""
    eyes = share[:, EYES]
    mean = eyes.mean(1, keepdim=True)
    apart = (eyes[:, :1] - eyes[:, 1:]).abs()
    t = ((apart - ALIKE) / (WINK - ALIKE)).clamp(0, 1)
    return torch.cat((torch.lerp(mean.expand_as(eyes), eyes, t * t * (3 - 2 * t)), share[:, MOUTH:]), 1)


def _heights(head: HeadModel, vertices: Tensor) -> Tensor:  # (B, 3)
    points = head.landmark_points(vertices)[..., 1]
    heights = [torch.stack([points[:, up] - points[:, low] for up, low in pairs]) for pairs in PAIRS]
    return torch.stack([each.nanmean(0) for each in heights], 1)
