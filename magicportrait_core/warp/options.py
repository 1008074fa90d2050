"""How the warp preview moves and repairs a portrait."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WarpOptions:
    """Sizes are shares of the face width (ear to ear) unless a unit is given; found by eye."""

    max_turn: float = 25.0  # degrees of head turn away from the photo that are followed; more is held
    max_yaw: float = 50.0  # degrees of total yaw that are followed
    mirror: bool = True  # use the other half of the face where the photo hides one (3/4 portraits)
    fill_mirrored: bool = False  # count mirrored skin as hole, so that an inpainting step redraws it
    personal_offset: float = 0.006  # metres, Gaussian width of the landmark correction; 0 turns it off
    hair: float = 0.30  # around the head that moves with it: hair, hats, ears
    falloff: float = 0.90  # further out, where the motion fades to a still background
    max_work_width: int = (
        320  # pixels of face width at which flow and masks are computed; larger photos upsample
    )
    layers: bool = True  # head, hair and body over a still background; off: one sheet that bends

    def __post_init__(self):
        if not 0 < self.max_turn <= 90 or not 0 < self.max_yaw <= 90:
            raise ValueError(
                f"max_turn={self.max_turn}, max_yaw={self.max_yaw} degrees; expected above 0 and at most 90"
            )
        for name in ("personal_offset", "hair", "falloff"):
            if not 0 <= getattr(self, name) <= 4:
                raise ValueError(f"{name}={getattr(self, name)}; expected 0 to 4")
        if self.max_work_width < 32:
            raise ValueError(f"max_work_width={self.max_work_width} pixels; expected at least 32")
