"""A flatter head behind the face: what a photo shows of ears and hair is no deeper than it can be turned.

A head that turns brings skin into view, between cheek and ear, that a frontal photo never showed. The nearer
ears and hair are to the depth of the cheeks, the less of it there is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..head.model import HeadModel
from ..tracking.track import FaceTrack
from .personal import in_head_space

OUTLINE = (127, 356, 234, 454, 93, 323, 132, 361)  # landmarks along the sides of the face, temple to jaw
KEPT = 0.3  # of the depth behind the face


def flattening_offsets(
    head: HeadModel,
    track: FaceTrack,  # 1 frame
    offsets: Tensor,  # (V, 3) metres, head space at rest, that are there already
    rigidity: Tensor,  # (V,) 0..1, share by which a vertex follows the skull
    kept: float = KEPT,
) -> Tensor:  # (V, 3) metres, head space at rest
    """Return what brings vertices behind the face's outline nearer to it, along the viewer's rays: the photo
    shows them where it did."""
    posed = head.vertices(track.shape, track.expression[:1], track.pose[:1], offsets)
    points = track.camera[:1].to_camera(posed)[0]
    ahead = in_head_space(track, torch.eye(3, device=points.device))[:, 2]  # where the nose points
    marks = head.landmark_points(points[None])[0, list(OUTLINE)]
    behind = (marks @ ahead).nanmean() - points @ ahead  # metres behind the outline
    if track.camera.projection == "orthographic":
        rays = points.new_tensor([0.0, 0.0, -1.0]).expand_as(points)
    else:
        rays = points / points.norm(dim=-1, keepdim=True)
    step = (1 - kept) * behind.clamp(min=0) * rigidity
    towards = (rays @ ahead).clamp(max=-0.3)
    return in_head_space(track, (step / towards)[:, None] * rays).nan_to_num()
