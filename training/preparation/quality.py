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
from training.preparation.options import FACE_SHARE, SHARP_SIDE

LUMINANCE = (0.299, 0.587, 0.114)
LAPLACE = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
# What counts as much against a still picture as a face without any detail:
DEGREES = 15.0  # turned away
EXPRESSION = 1.5  # sum of the expression scores
DOUBT = 0.1  # of the landmark network
MISFIT = 2.0  # times the usual error of the fit


def sharpness(
    crops: Tensor,  # (F, 3, S, S) uint8, the face in the middle
    size: int,  # pixels of the crops as they are stored
) -> Tensor:  # (F,)
    """Variance of the Laplacian over that of the brightness, in the face: not a matter of contrast."""
    side = min(SHARP_SIDE, size)
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
    """The frame that faces the camera, with a calm face and open eyes, sharp, and with nothing before it."""
    turn = axis_angle_to_matrix(track.pose[:, 0]) @ axis_angle_to_matrix(track.pose[:, 1])
    angles = euler_degrees(track.camera.view[..., :3] @ turn)
    error = track.error.nan_to_num(0.0)  # DECA and SMIRK measure none
    cost = angles.abs().sum(1) / DEGREES + scores[:, 1:].sum(1) / EXPRESSION
    cost += (1 - track.confidence) / DOUBT + (error / error.median().clamp(min=1e-6) - 1) / MISFIT
    return int((cost - sharp / sharp.max().clamp(min=1e-9)).argmin())
