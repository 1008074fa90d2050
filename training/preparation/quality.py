"""How sharp a face is, and which frame of a clip makes the best still picture."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from magicportrait_core.head.skinning import axis_angle_to_matrix
from magicportrait_core.resampling import resized_levels
from magicportrait_core.tracking.rotations import euler_degrees
from magicportrait_core.tracking.track import FaceTrack
from training.preparation.options import FACE_SHARE

SIDE = 256  # pixels of the crop at which sharpness is measured, at most: finer detail is the camera's noise
LUMINANCE = (0.299, 0.587, 0.114)
LAPLACE = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
DEGREES, EXPRESSION, BLUR = 15.0, 1.5, 1.0  # that weigh alike against a still picture


def sharpness(
    crops: Tensor,  # (F, 3, S, S) uint8, the face in the middle
    size: int,  # pixels of the crops as they are stored
) -> Tensor:  # (F,)
    """Variance of the Laplacian over that of the brightness, in the face: not a matter of contrast."""
    side = min(SIDE, size)
    small = resized_levels(crops, (side, side), Image.Resampling.LANCZOS).float() / 255
    grey = torch.einsum("fchw,c->fhw", small, small.new_tensor(LUMINANCE))[:, None]
    edges = functional.conv2d(grey, grey.new_tensor(LAPLACE)[None, None], padding=1)
    margin = round(side * (1 - FACE_SHARE) / 2)
    face = slice(margin, side - margin)
    parts = (values[:, 0, face, face].flatten(1).var(1) for values in (edges, grey))
    return torch.divide(*parts).nan_to_num(0.0, 0.0)


def best_still(
    track: FaceTrack,
    sharp: Tensor,  # (F,)
    scores: Tensor,  # (F, 52) expression scores of the landmark network, 0..1, the first is "neutral"
) -> int:
    """The frame that faces the camera, with a calm face and open eyes, and is sharp."""
    turn = axis_angle_to_matrix(track.pose[:, 0]) @ axis_angle_to_matrix(track.pose[:, 1])
    angles = euler_degrees(track.camera.view[..., :3] @ turn)
    cost = angles.abs().sum(1) / DEGREES + scores[:, 1:].sum(1) / EXPRESSION
    return int((cost + BLUR * (1 - sharp / sharp.max().clamp(min=1e-9))).argmin())
