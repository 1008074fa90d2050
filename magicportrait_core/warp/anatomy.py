"""What the warp needs to know about a head model, once: which vertices are skull, cheek, lid or neck.

Places are stated relative to the head's own landmarks, so that FLAME files work as the open head does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..head.model import LEFT_EYE, RIGHT_EYE, SKIN, HeadModel
from .fill import smoothstep

SKIN_CLASS, EYE_CLASS, MOUTH_CLASS = range(3)
EYE_CORNERS = ((33, 133), (263, 362))  # the person's right, left: outer, inner
OUTER_EYES = (33, 263)
NOSE_TIP = 4
FOREHEAD, CHIN, RIGHT_EAR, LEFT_EAR = 10, 152, 234, 454
LIPS_MIDDLE = (13, 14)  # upper, lower, inner contour
# Openings, in order around the contour.
RIGHT_EYE_OPENING = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE_OPENING = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
RIGHT_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
LEFT_UPPER_LID = (263, 466, 388, 387, 386, 385, 384, 398, 362)
UPPER_LIDS = (RIGHT_UPPER_LID, LEFT_UPPER_LID)
LID_MIDDLES = ((159, 145), (386, 374))  # right, left: upper, lower


@dataclass(frozen=True)
class Anatomy:
    classes: Tensor  # (T,) int64: skin, eye or inside of the mouth
    eye_side: Tensor  # (T,) int64: 0 right eye, 1 left eye, -1 neither
    skull: Tensor  # (N,) int64, vertices that no expression moves
    rigidity: Tensor  # (V,) 1 where skin follows the skull, 0 at the base of the neck
    neck: Tensor  # (T,) bool, below the head: may be hidden by the jaw
    cheek: Tensor  # (V,) 0..1, bare skin at the side of the face: not scalp, not neck
    lid: Tensor  # (V,) 0..1, skin that closes over the eye


def anatomy_of(head: HeadModel) -> Anatomy:
    """Labels of `head`; needs its landmark map."""
    template = head.template
    marks = head.landmark_points(template[None])[0]
    unit = (marks[OUTER_EYES[0]] - marks[OUTER_EYES[1]]).norm()  # about 9 cm
    classes = torch.zeros_like(head.regions)
    classes[head.regions != SKIN] = MOUTH_CLASS
    classes[(head.regions == LEFT_EYE) | (head.regions == RIGHT_EYE)] = EYE_CLASS
    classes[head.cavity] = MOUTH_CLASS
    eye_side = torch.full_like(head.regions, -1)
    eye_side[head.regions == RIGHT_EYE] = 0
    eye_side[head.regions == LEFT_EYE] = 1

    skin = torch.zeros(head.num_vertices, dtype=torch.bool, device=template.device)
    skin[head.faces[classes == SKIN_CLASS].reshape(-1)] = True
    rigidity = smoothstep(0.25, 0.9, 1 - head.skin_weights[:, 0])
    stillness = head.expression_basis.norm(dim=-1).amax(0)
    carried = skin & (rigidity > 0.999) & (head.skin_weights[:, 2] < 1e-3)
    limit = stillness[carried].quantile(0.3)
    skull = (carried & (stillness <= limit)).nonzero().squeeze(1)

    y, z = template[:, 1], template[:, 2]
    ears = 0.5 * (marks[RIGHT_EAR] + marks[LEFT_EAR])
    below_hair = 1 - smoothstep(0.0, 0.25, (y - marks[FOREHEAD, 1]) / unit + 0.35)
    in_front = smoothstep(-0.05, 0.2, (z - ears[2]) / unit)
    above_neck = smoothstep(0.9, 0.999, rigidity)
    return Anatomy(
        classes=classes,
        eye_side=eye_side,
        skull=skull[:: max(1, len(skull) // 300)],
        rigidity=rigidity,
        neck=rigidity[head.faces].mean(1) < 0.5,
        cheek=below_hair * in_front * above_neck * skin,
        lid=_lids(head, unit) * skin,
    )


def _lids(head: HeadModel, unit: Tensor) -> Tensor:
    """Vertices that a blink moves by more than about 2 % of the eye distance, upper lids only."""
    names = [name for name in ("eyeBlinkLeft", "eyeBlinkRight") if name in head.expression_names]
    if not names:
        return torch.zeros_like(head.template[:, 0])
    moved = sum(head.expression_basis[head.expression_index(name)] for name in names)
    down = (-moved[:, 1] / unit).clamp(min=0)
    return smoothstep(0.015, 0.04, down)
