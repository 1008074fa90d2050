"""How far one photo can turn: soft limits of yaw, pitch and roll, away from the portrait's own pose.

The change of yaw and pitch is led to an ellipse, so that a head that turns and nods at once stays within
what either alone may do: as it is up to half of the limit, then ever slower, never beyond.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..tracking.rotations import euler_degrees, rotation_of_euler

FOLLOWED = 0.5  # share of a limit up to which a change is followed as it is
# Degrees from a frontal portrait; less for each degree that the portrait is turned, and at least so much.
AWAY, AWAY_LOSS, LEAST_AWAY = 20.0, 0.3, 8.0  # yaw further from the viewer: the near cheek stays
BACK, BACK_LOSS, LEAST_BACK = 20.0, 0.42, 6.0  # yaw towards the viewer: the far cheek would have to appear
PITCH, ROLL = 18.0, 28.0


@dataclass(frozen=True)
class TurnLimits:
    """Degrees that a portrait may turn from its own pose."""

    right: float  # yaw towards the picture's right
    left: float
    pitch: float = PITCH
    roll: float = ROLL

    @classmethod
    def of(cls, yaw: float) -> TurnLimits:
        """Return the limits of a portrait by its own yaw, degrees, + to the picture's right."""
        away = max(AWAY - AWAY_LOSS * abs(yaw), LEAST_AWAY)
        back = max(BACK - BACK_LOSS * abs(yaw), LEAST_BACK)
        return cls(away, back) if yaw >= 0 else cls(back, away)


@dataclass(frozen=True)
class LimitedTurn:
    """Rotations within the limits, and what was held back."""

    rotation: Tensor  # (F, 3, 3)
    limits: TurnLimits
    wanted: Tensor  # (F, 3) yaw, pitch, roll asked for, degrees from the portrait's own
    held: Tensor  # (F,) degrees of yaw and pitch that were not followed


def within_photo(
    own: Tensor,  # (3, 3) the portrait's rotation relative to the line of sight
    rotation: Tensor,  # (F, 3, 3) wanted, likewise
) -> LimitedTurn:
    """Lead rotations softly to what the portrait can show; those at the portrait's own pose stay, exactly."""
    here, there = euler_degrees(own), euler_degrees(rotation)
    limits = TurnLimits.of(float(here[0]))
    change = torch.remainder(there - here + 180, 360) - 180  # (F, 3)
    yaw, pitch, roll = change.unbind(1)
    side = torch.where(yaw >= 0, limits.right, limits.left)
    size = torch.stack((yaw / side, pitch / limits.pitch), 1).norm(dim=1)
    look = _softly(size)
    tilt = (roll / limits.roll).abs()
    factor = torch.stack((look, look, _softly(tilt)), 1)
    followed = change * factor
    limited = rotation_of_euler(here + followed)
    unchanged = ((look == 1) & (factor[:, 2] == 1))[:, None, None]
    held = (change - followed)[:, :2].norm(dim=1)
    return LimitedTurn(torch.where(unchanged, rotation, limited), limits, change, held)


def _softly(size: Tensor) -> Tensor:
    """Factor that leads a size (1: the limit) to below 1: 1 up to FOLLOWED, continuous in value and slope."""
    room = 1 - FOLLOWED
    led = FOLLOWED + room * torch.tanh((size - FOLLOWED) / room)
    return torch.where(size <= FOLLOWED, torch.ones_like(size), led / size.clamp(min=1e-9))
