"""Where the eyes look, as turns of a head's eye joints, from the landmark network's scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .landmarker_networks import BLENDSHAPE_NAMES

# Turn of an eye at score 1: eyes reach further, but seldom without the head (ARKit's scores are made so).
MOST_ACROSS, MOST_UP, MOST_DOWN = (math.radians(degrees) for degrees in (30.0, 20.0, 25.0))


def gaze_of_scores(
    blendshapes: Tensor,  # (F, 52) 0..1
) -> Tensor:  # (F, 2, 3) axis-angle, radians: left eye, right eye
    """Rotations of the eyeballs in the head; x turns down, y turns to the person's left."""

    def score(name: str) -> Tensor:
        return blendshapes[:, BLENDSHAPE_NAMES.index(f"eyeLook{name}")]

    down = torch.stack(
        [score(f"Down{side}") * MOST_DOWN - score(f"Up{side}") * MOST_UP for side in ("Left", "Right")], 1
    )
    left = torch.stack((score("OutLeft") - score("InLeft"), score("InRight") - score("OutRight")), 1)
    return torch.stack((down, left * MOST_ACROSS, torch.zeros_like(down)), -1)
