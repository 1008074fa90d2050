"""The driver's frame that counts as neutral."""

from __future__ import annotations

import torch

from ..expression_groups import group_of, is_arkit
from ..tracking.rotations import angle_between
from ..tracking.track import FaceTrack
from .line_of_sight import seen_rotation

NEUTRAL_TURN = 0.35  # radians away from the portrait's rotation that weigh as much as one full expression
NEUTRAL_WEIGHT = {"jaw": 8.0, "brows": 0.5, "gaze": 0.3}  # how much a group speaks against a frame; others 1
UNNAMED_WEIGHT = 0.04  # a Gaussian basis has larger coefficients than ARKit's 0..1
JAW_OPEN = 0.42  # radians of a wide open mouth
JAW = 2  # row of FaceTrack.pose


def neutral_frame(portrait: FaceTrack, driving: FaceTrack, absolute_rotation: bool = False) -> int:
    """Find the driver's frame with the least expression whose head is turned most like the portrait's.

    With absolute rotation the frame stands for expression only, and is sought where the driver faces the
    viewer. Turns are relative to the line of sight.
    """
    names = driving.expression_names
    if is_arkit(names):
        weight = driving.expression.new_tensor([NEUTRAL_WEIGHT.get(group_of(n), 1.0) for n in names])
    else:
        weight = torch.full_like(driving.expression[0], UNNAMED_WEIGHT)
    cost = (driving.expression**2 * weight).sum(1)
    cost = cost + NEUTRAL_WEIGHT["jaw"] * (driving.pose[:, JAW] / JAW_OPEN).square().sum(1)
    turn = seen_rotation(driving)
    rest = torch.eye(3).to(turn) if absolute_rotation else seen_rotation(portrait)
    cost = cost + (angle_between(turn, rest.expand_as(turn)) / NEUTRAL_TURN) ** 2
    if driving.found.any():  # a filled frame is a guess
        cost = torch.where(driving.found, cost, torch.full_like(cost, torch.inf))
    return int(cost.argmin())
