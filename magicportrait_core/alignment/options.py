"""Options of Structured Face Alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["absolute", "relative", "auto"]
Carry = Literal["auto", "neck", "whole"]


@dataclass(frozen=True)
class StructuredFaceAlignment:
    """How motion is transferred. Strengths: 0 leaves the portrait's own value exactly, 1 follows the driver.

    `absolute` is the paper's rule (section 3.2): expression, jaw and head rotation of the driver as they are.
    `relative` adds the driver's change since its neutral frame to the portrait's own expression and rotation.
    `auto` adds the driver's expression since its rest to the portrait's rest, opens mouth and lids by the
    same share of each person's range, and leads the turn softly to what one photo can show.
    """

    mode: Mode = "auto"
    neutral_frame: int | None = None  # the driver's frame that stands for rest; None: found automatically
    strength: float = 1.0  # multiplies all strengths below
    head: float = 1.0  # rotation
    jaw: float = 1.0
    mouth: float = 1.0
    brows: float = 1.0
    lids: float = 1.0
    gaze: float = 1.0
    # What turns: the head on its neck, so that shoulders stay, or the whole bust, as released with FLAME.
    # auto: neck for heads with ARKit names (the open head), whole for others.
    carry: Carry = "auto"
    follow_place: float = 0.0  # how much of the driver's moves across the picture and towards it to follow
    max_yaw: float | None = None  # degrees; turn the head no further than this from the viewer
    max_change: float | None = None  # degrees; turn it no further than this from the portrait
    # auto: how much of the portrait's own look counts as its rest and stays, 0 (none) to 1.
    own_expression: float = 0.5

    def __post_init__(self):
        if self.mode not in ("absolute", "relative", "auto"):
            raise ValueError(f"mode={self.mode!r}; expected absolute, relative or auto")
        if self.carry not in ("auto", "neck", "whole"):
            raise ValueError(f"carry={self.carry!r}; expected neck (shoulders stay), whole or auto")
        for name in ("strength", "head", "jaw", "mouth", "brows", "lids", "gaze", "follow_place"):
            if not 0 <= getattr(self, name) <= 3:
                raise ValueError(
                    f"strength {name}={getattr(self, name)}; expected 0 (portrait) to 1 (driver), at most 3"
                )
        for name in ("max_yaw", "max_change"):
            limit = getattr(self, name)
            if limit is not None and not 0 <= limit <= 180:
                raise ValueError(f"{name}={limit} degrees; expected 0 to 180, or nothing for no limit")
        if not 0 <= self.own_expression <= 1:
            raise ValueError(
                f"own_expression={self.own_expression}; expected 0 (a plain face at rest) to 1 (the "
                "portrait's own look stays)"
            )
