"""What a portrait does not show is carried with the head and does not move by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tracking.covers import ZONE_NAMES, ZONES, is_covered, moved_by
from ..tracking.face_region import NUM_FACE_POINTS
from ..tracking.track import FaceTrack

JAW = 2  # row of FaceTrack.pose
SIDES = ("left", "top", "right", "bottom")  # of the picture
CUT = 0.03  # of the face's longer side beyond the border, where the picture cuts the face (58 whole ones: 0)


def kept_where_covered(
    portrait: FaceTrack,  # 1 frame
    expression: Tensor,  # (F, E)
    joints: Tensor,  # (F, 3, 3) jaw, left eye, right eye, axis-angle
    eyelids: Tensor,  # (F, 2)
) -> tuple[Tensor, Tensor, Tensor]:
    """Give zones that are covered in the portrait its own values: a mask does not open, dark glasses do not
    blink."""
    expression, joints, eyelids = expression.clone(), joints.clone(), eyelids.clone()
    for zone in ZONES:
        if not is_covered(portrait, zone):
            continue
        columns, lids, rows = moved_by(zone, portrait.expression_names, portrait.expression.shape[1])
        expression[:, columns] = portrait.expression[:, columns]
        eyelids[:, lids] = portrait.eyelids[:, lids]
        joints[:, [row - JAW for row in rows]] = portrait.pose[:, rows]
    return expression, joints, eyelids


def cover_notes(
    portrait: FaceTrack,  # 1 frame
    kept: bool,  # what is covered keeps still
) -> list[str]:
    """Say in sentences what the portrait does not show."""
    said = []
    names = [name for zone, name in zip(ZONES, ZONE_NAMES, strict=True) if is_covered(portrait, zone)]
    if names:
        how = "stays as in the photo and moves with the head only" if kept else "may be stretched"
        said.append(
            f"the portrait's {' and '.join(names)} cannot be seen (covered, or beyond the picture's border): "
            f"what is there {how}; a portrait with a free face shows more"
        )
    sides = _cut_sides(portrait)
    if sides:
        said.append(
            f"the {' and the '.join(sides)} border of the picture cuts the portrait's face: what lies beyond "
            "is made up where the head turns; use a picture with room around the face"
        )
    return said


def _cut_sides(portrait: FaceTrack) -> list[str]:
    if portrait.landmarks is None or not bool(portrait.landmarks.isfinite().all()):
        return []
    points = portrait.landmarks[0, :NUM_FACE_POINTS, :2].cpu()
    low, high = points.amin(0), points.amax(0)
    height, width = portrait.size
    beyond = torch.cat((-low, high - high.new_tensor([width, height])))
    return [side for side, cut in zip(SIDES, beyond > CUT * (high - low).max(), strict=True) if cut]
