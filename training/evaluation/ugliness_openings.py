"""Openings of mouth and lids in pictures, from landmarks, and how far two people's openings differ as shares.

Unit: outer-eye distances (landmarks 33 and 263, in space, so that it does not shrink when the head turns).

A person's range of the mouth is what he can open it: the portrait's is the largest opening of the head model
at his fitted shape, or that of his photo where it is larger; the driver's is the 95th percentile of his clip
or the largest opening of his head, whichever is larger. A person's range of the lids is the widest opening
seen: the driver's in his clip (95th percentile), the portrait's in photo and result, but no less than a share
of what his head has at rest, so that eyes which stay shut are no eyes that open fully.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from magicportrait_core.head.model import HeadModel
from magicportrait_core.tracking.landmark_error import OUTER_EYES

INNER_LIPS = (13, 14)  # landmarks, upper and lower
LID_PAIRS = ((159, 145), (160, 144), (158, 153)), ((386, 374), (387, 373), (385, 380))  # right, left eye
EYE_CORNERS = (33, 133), (362, 263)
WIDEST = 0.95  # quantile of a clip that counts as a person's widest
LEAST_EYE = 0.6  # of the head's opening at rest; a smaller widest opening of lids is no range
FAR_EYE = 0.5  # an eye seen narrower than this share of the other one is turned away and not judged


@dataclass(frozen=True)
class Openings:
    """Outer-eye distances; NaN in frames without a face."""

    lips: Tensor  # (F,) between the inner edges of the lips
    lids: Tensor  # (F, 2) right, left eye
    judged: Tensor  # (F, 2) bool, the eye is seen well enough

    @classmethod
    def of(
        cls,
        points: Tensor,  # (F, 478, 3) pixels, z in the same unit
    ) -> Openings:
        """Measure landmarks as the network saw them."""
        unit = (points[:, OUTER_EYES[0]] - points[:, OUTER_EYES[1]]).norm(dim=-1)
        flat = points[..., :2]
        lids = torch.stack([_mean_distance(flat, pairs) for pairs in LID_PAIRS], 1)
        width = torch.stack([_mean_distance(flat, (corners,)) for corners in EYE_CORNERS], 1)
        judged = (width >= FAR_EYE * width.amax(1, keepdim=True)) & lids.isfinite()
        return cls(_mean_distance(flat, (INNER_LIPS,)) / unit, lids / unit[:, None], judged)

    def __getitem__(self, frames: Tensor | slice) -> Openings:
        return Openings(self.lips[frames], self.lids[frames], self.judged[frames])


@dataclass(frozen=True)
class HeadRange:
    """What the head model of one person can open, outer-eye distances."""

    lips: float  # the jaw down, beyond the plain face
    lids: Tensor  # (2,) right, left eye at rest

    @classmethod
    def of(
        cls,
        head: HeadModel,
        shape: Tensor,  # (1, S)
    ) -> HeadRange:
        """Measure the unposed head of a person."""
        plain = head.template.new_zeros(1, head.num_expression)
        open_mouth = plain.clone()
        open_mouth[0, head.expression_index("jawOpen")] = 1
        points = torch.cat([head.landmark_points(head.rest_vertices(shape, e)) for e in (plain, open_mouth)])
        seen = Openings.of(points)
        return cls(float(seen.lips[1] - seen.lips[0]), seen.lids[0])


def lip_range(
    lips: Tensor,  # (F,) of a clip, or (1,) of a photo; NaN: no face
    head: HeadRange,
) -> float:
    """Return the largest opening of a person's mouth, outer-eye distances."""
    return max(widest(lips), head.lips)


def lid_range(
    lids: Tensor,  # (F, 2) of a clip; NaN: no face
    head: HeadRange,
    photo: Tensor | None = None,  # (2,) lids of the same person in another picture
) -> Tensor:  # (2,)
    """Return the widest opening of a person's lids, outer-eye distances."""
    most = torch.stack([torch.tensor(widest(lids[:, eye])) for eye in (0, 1)]).to(lids)
    if photo is not None:
        most = torch.maximum(most, photo.nan_to_num(0))
    return torch.maximum(most, LEAST_EYE * head.lids.to(lids))


def widest(
    values: Tensor,  # (F,) NaN: not known
) -> float:
    """Return the 95th percentile of what is known; 0 where nothing is."""
    known = values[values.isfinite()]
    return float(known.quantile(WIDEST)) if len(known) else 0.0


def lip_error(
    shown: Tensor,  # (F,) of the result
    driver: Tensor,  # (F,)
    own_range: float,
    driver_range: float,
) -> float:
    """Return the mean difference between the mouth's opening and the driver's share of the portrait's own
    range, in the portrait's outer-eye distances."""
    return float((shown - driver / driver_range * own_range).abs().nanmean())


def lid_error(
    shown: Openings,  # of the result
    driver: Openings,
    own_range: Tensor,  # (2,)
    driver_range: Tensor,  # (2,)
) -> float:
    """Return the mean difference of the lids' openings as shares of each person's range, over the eyes that
    both pictures show."""
    apart = (shown.lids / own_range - driver.lids / driver_range).abs()
    judged = shown.judged & driver.judged & apart.isfinite()
    return float(apart[judged].mean()) if bool(judged.any()) else float("nan")


def _mean_distance(points: Tensor, pairs: tuple[tuple[int, int], ...]) -> Tensor:  # (F,)
    return torch.stack([(points[:, a] - points[:, b]).norm(dim=-1) for a, b in pairs]).mean(0)
