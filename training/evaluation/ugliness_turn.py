"""Turns of the head: asked for, shown, and the driver's, all since a picture that stands for no turn.

Angles are relative to the line of sight to the face, so that a place in the picture is no turn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from magicportrait_core.tracking.rotations import angle_between, euler_degrees

LEAST_SPREAD = 2.5  # degrees, root mean square of the driver's yaw from which a slope says something
LEAST_FRAMES = 4  # with such a yaw
MOVES = 8.0  # degrees by which a driver turns whose portrait must not stand still
STILL = 0.25  # of what the driver turns, within the limits: a head that turns less stands still


@dataclass(frozen=True)
class Turns:
    """Rotations relative to the line of sight."""

    photo: Tensor  # (3, 3) as the tracker sees it together with the result
    shown: Tensor  # (F, 3, 3) in the result; NaN: no face
    own: Tensor  # (3, 3) of the portrait's track
    wanted: Tensor  # (F, 3, 3) of the aligned track
    neutral: Tensor  # (3, 3) the driver's neutral frame
    driver: Tensor  # (F, 3, 3)

    @property
    def seen(self) -> Tensor:  # (F,) bool
        return self.shown.isfinite().all(-1).all(-1)

    def error(self) -> float:
        """Return the mean angle between asked and shown change of the head's rotation, degrees."""
        wanted, shown = self.wanted @ self.own.T, self.shown @ self.photo.T
        apart = torch.rad2deg(angle_between(wanted[self.seen], shown[self.seen]))
        return float(apart.mean()) if len(apart) else math.nan

    def yaws(self) -> tuple[Tensor, Tensor]:  # (F,) twice
        """Return changes of yaw, degrees: shown since the photo, and the driver's since his neutral frame."""
        return yaw_change(self.shown, self.photo), yaw_change(self.driver, self.neutral)

    def gain(
        self,
        left: float,  # limit of yaw to the picture's left, degrees
        right: float,
    ) -> float:
        """Return the slope of shown on driver's change of yaw (least squares through no change), in frames
        in which the driver stays within half of the limit; NaN where he hardly turns in these."""
        shown, driver = self.yaws()
        limit = torch.where(driver > 0, right, left)
        chosen = self.seen & (driver.abs() <= limit / 2)
        shown, driver = shown[chosen], driver[chosen]
        if (driver.abs() >= LEAST_SPREAD).sum() < LEAST_FRAMES:
            return math.nan
        return float((shown * driver).sum() / driver.square().sum())

    def over(
        self,
        left: float,  # limit of yaw to the picture's left, degrees
        right: float,
    ) -> float:
        """Return how far the shown yaw goes beyond what the photo can show, degrees; 0 where it does not."""
        shown = self.yaws()[0][self.seen]
        if not len(shown):
            return math.nan
        return max(0.0, float(shown.max()) - right, -float(shown.min()) - left)

    def largest(self) -> tuple[float, float]:
        """Return the largest angles, degrees: shown since the photo, the driver's since his neutral frame."""
        shown = torch.rad2deg(angle_between(self.photo.expand_as(self.shown), self.shown))[self.seen]
        driver = torch.rad2deg(angle_between(self.neutral.expand_as(self.driver), self.driver))
        return (float(shown.max()) if len(shown) else math.nan), float(driver.max())

    def stands_still(
        self,
        limit: float,  # degrees that the photo may turn to the side that allows least
    ) -> bool:
        """Say whether the head stands still although the driver's does not."""
        shown, driver = self.largest()
        return driver >= MOVES and not shown >= STILL * min(driver, limit)


def yaw_change(
    rotation: Tensor,  # (F, 3, 3)
    since: Tensor,  # (3, 3)
) -> Tensor:  # (F,) degrees in -180..180
    """Return how far the head has turned to the picture's right."""
    change = euler_degrees(rotation)[:, 0] - euler_degrees(since)[0]
    return torch.remainder(change + 180, 360) - 180
