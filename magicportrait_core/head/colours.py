"""Plain colours of a head's parts, for pictures made before (or without) a person's own texture."""

from __future__ import annotations

import torch
from torch import Tensor

from .model import REGIONS, HeadModel

# Linear steps of sRGB, 0..1: believable under a simple light, and readable by the landmark networks.
PART_COLOURS = {
    "skin": (0.80, 0.64, 0.55),
    "upper_teeth": (0.90, 0.88, 0.82),
    "lower_teeth": (0.88, 0.86, 0.80),
    "tongue": (0.72, 0.38, 0.38),
    "left_eye": (0.93, 0.92, 0.90),
    "right_eye": (0.93, 0.92, 0.90),
}
CAVITY_COLOUR = (0.40, 0.16, 0.16)
IRIS_COLOURS = {1: (0.32, 0.22, 0.14), 2: (0.04, 0.04, 0.04)}  # iris, pupil


def part_colours(head: HeadModel) -> Tensor:  # (T, 3) 0..1
    """A colour of every triangle: skin, teeth, tongue, gums, white of the eye, iris, pupil."""
    table = head.template.new_tensor([PART_COLOURS[name] for name in REGIONS])
    colours = table[head.regions]
    colours[head.cavity] = table.new_tensor(CAVITY_COLOUR)
    for part, colour in IRIS_COLOURS.items():
        colours[head.iris == part] = table.new_tensor(colour)
    return colours.to(torch.float32)
