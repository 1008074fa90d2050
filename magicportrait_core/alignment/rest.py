"""A person's rest: the small part of a look that is the face's own, and not an expression.

What travels from driver to portrait is expression since rest. Were it the change since one frame, a driver
who laughs in every frame would move nothing, and an open mouth in the portrait would never shut.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..expression_groups import group_of, is_arkit
from ..tracking.track import FaceTrack

# Largest rest by group at own_expression 0.5, found on 44 pairs of strangers' pictures. A mouth at rest is
# nearly shut; brows and lids differ more between people. Gaze has no rest: it counts from a frame.
LARGEST_REST = {"jaw": 0.04, "mouth": 0.15, "brows": 0.3, "lids": 0.3}
LARGEST_REST_UNNAMED = 1.0  # length of the coefficients of a Gaussian basis
LARGEST_REST_JAW = 0.02  # radians, heads whose jaw is a joint
CALM = 0.1  # quantile of a clip that counts as calm
JAW = 2  # row of FaceTrack.pose


@dataclass(frozen=True)
class Rest:
    """What counts as rest of one person."""

    expression: Tensor  # (1, E); gaze as it is in the frame that stands for rest
    jaw: Tensor  # (1, 3) axis-angle
    eyelids: Tensor  # (1, 2)


def rest_of(
    track: FaceTrack,  # a clip, or a portrait of one frame
    neutral: int,  # the frame that stands for rest where there are no named expressions, and for gaze
    own_expression: float,  # 0..1, scales the largest rest; 0.5 is as stated above
) -> Rest:
    """Return the calm values of a clip, each limited to what can be rest."""
    size = 2 * own_expression
    chosen = track.found if bool(track.found.any()) else torch.ones_like(track.found)
    here = track.expression[neutral : neutral + 1]
    if is_arkit(track.expression_names):
        calm = track.expression[chosen].quantile(CALM, dim=0, keepdim=True)
        groups = [group_of(name) for name in track.expression_names]
        most = here.new_tensor([size * LARGEST_REST.get(group, 0.0) for group in groups])
        gaze = torch.tensor([group == "gaze" for group in groups], device=here.device)
        expression = torch.where(gaze, here, torch.minimum(calm, most))
    else:
        expression = _shortened(here, size * LARGEST_REST_UNNAMED)
    lids = track.eyelids[chosen].quantile(CALM, dim=0, keepdim=True)
    return Rest(
        expression=expression,
        jaw=_shortened(track.pose[neutral : neutral + 1, JAW], size * LARGEST_REST_JAW),
        eyelids=lids.clamp(max=size * LARGEST_REST["lids"]),
    )


def _shortened(vectors: Tensor, most: float) -> Tensor:
    """Vectors of at most this length; shorter ones as they are, bit for bit."""
    length = vectors.norm(dim=-1, keepdim=True)
    return torch.where(length > most, vectors * (most / length.clamp(min=1e-12)), vectors)
