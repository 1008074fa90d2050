"""What a user should know about an alignment before the long work starts."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tracking.report import cover_warnings
from ..tracking.rotations import angle_between, euler_degrees
from ..tracking.track import FaceTrack
from .turn_limits import LimitedTurn

TRUSTED_YAW, TRUSTED_CHANGE = 50.0, 25.0  # degrees; beyond, a portrait shows too little of the revealed side
HELD = 3.0  # degrees of turn that are held back before it is worth a word


def notes(
    own: Tensor,  # (3, 3) the portrait's rotation relative to the line of sight
    rotation: Tensor,  # (F, 3, 3) the aligned one, likewise
    driving: FaceTrack,
    held: LimitedTurn | None,  # of mode auto
    limited: int,  # frames in which max_yaw or max_change was reached
    clipped: int,  # frames in which a coefficient was kept within its range
) -> tuple[str, ...]:
    """Say in sentences how far the motion is held back, and where one portrait can hardly show it."""
    total = len(rotation)
    said = [_held_back(own, held)] if held is not None and float(held.held.max()) > HELD else []
    if held is None:
        said += _hard_to_show(own, rotation)
    if limited:
        said.append(f"head rotation was limited in {limited} of {total} frames")
    if clipped:
        said.append(
            f"expressions went beyond the head's range and were limited in {clipped} of {total} frames"
        )
    missing = int((~driving.found).sum())
    if missing:
        said.append(f"{missing} of {total} driving frames had no face and were filled")
    said += [f"the driver's {text}" for text in cover_warnings(driving)]
    return tuple(said)


def _held_back(own: Tensor, turn: LimitedTurn) -> str:
    """One sentence: how far this portrait is held back with this driver."""
    frames, total = int((turn.held > HELD).sum()), len(turn.held)
    yaw = turn.wanted[:, 0]
    asked = f"up to {max(float(yaw.max()), 0):.0f} degrees right and {max(float(-yaw.min()), 0):.0f} left"
    limits = turn.limits
    return (
        f"this portrait (turned by {float(euler_degrees(own)[0]):.0f} degrees) can turn {limits.right:.0f} "
        f"degrees further right, {limits.left:.0f} left and {limits.pitch:.0f} up or down; the driver asks "
        f"for {asked}, so the turn is held back in {frames} of {total} frames (by up to "
        f"{float(turn.held.max()):.0f} degrees); a portrait turned like the driver shows more"
    )


def _hard_to_show(own: Tensor, rotation: Tensor) -> list[str]:
    """Turns of the modes that follow the driver without limits."""
    total, said = len(rotation), []
    yaw = euler_degrees(rotation)[:, 0].abs()
    change = torch.rad2deg(angle_between(own.expand_as(rotation), rotation))
    if (yaw > TRUSTED_YAW).any():
        said.append(
            f"the head turns up to {yaw.max().item():.0f} degrees from the viewer (more than "
            f"{TRUSTED_YAW:.0f} in {int((yaw > TRUSTED_YAW).sum())} of {total} frames); lower the head "
            "strength, set max_yaw, or use mode auto"
        )
    if (change > TRUSTED_CHANGE).any():
        said.append(
            f"the head turns up to {change.max().item():.0f} degrees away from the portrait (more than "
            f"{TRUSTED_CHANGE:.0f} in {int((change > TRUSTED_CHANGE).sum())} of {total} frames), showing "
            "skin the portrait does not; lower the head strength, use mode auto, or a portrait turned like "
            "the driver"
        )
    return said
