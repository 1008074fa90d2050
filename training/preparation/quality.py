"""How sharp a face is, and which frame of a clip makes the best still picture."""

from __future__ import annotations

import math

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
COLOUR_SIDE = 128  # pixels of the crop at which colours are compared: fine detail does not matter
# What counts as much against a still picture as a face without any detail:
DEGREES = 15.0  # turned away
EXPRESSION = 1.5  # sum of the expression scores
DOUBT = 0.1  # of the landmark network
MISFIT = 2.0  # times the usual error of the fit
STRANGE = 0.5  # times the usual difference from the clip's colours
RESIZED = 1.4  # times the usual size


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


def strangeness(
    crops: Tensor,  # (F, 3, S, S) uint8
    landmarks: Tensor,  # (F, K, 3) pixels of the crops
) -> Tensor:  # (F,)
    """How far the colours at the landmarks are from the clip's usual ones, 0..1: a hand before the face."""
    small = resized_levels(crops, (COLOUR_SIDE, COLOUR_SIDE), Image.Resampling.LANCZOS).float() / 255
    places = landmarks[:, None, :, :2] / crops.shape[-1] * 2 - 1
    colours = functional.grid_sample(small, places, padding_mode="border", align_corners=False)[:, :, 0]
    return (colours - colours.median(0).values).abs().mean((1, 2))


def best_still(
    track: FaceTrack,  # with landmarks
    sharp: Tensor,  # (F,)
    strange: Tensor,  # (F,)
    scores: Tensor,  # (F, 52) expression scores of the landmark network, 0..1, the first is "neutral"
) -> int:
    """The frame that faces the camera: calm, eyes open, sharp, nothing before it, of usual size."""
    turn = axis_angle_to_matrix(track.pose[:, 0]) @ axis_angle_to_matrix(track.pose[:, 1])
    angles = euler_degrees(track.camera.view[..., :3] @ turn)
    places = track.landmarks[..., :2]
    side = (places.amax(1) - places.amin(1)).amax(1)
    cost = angles.abs().sum(1) / DEGREES + scores[:, 1:].sum(1) / EXPRESSION
    cost += (1 - track.confidence) / DOUBT + _beyond(track.error.nan_to_num(0.0)) / MISFIT
    cost += _beyond(strange) / STRANGE + (side / side.median()).log().abs() / math.log(RESIZED)
    return int((cost - sharp / sharp.max().clamp(min=1e-9)).argmin())


def _beyond(values: Tensor) -> Tensor:
    """0 for what is usual in a clip, 1 for twice as much."""
    return values / values.median().clamp(min=1e-6) - 1
