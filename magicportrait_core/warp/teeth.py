"""Teeth and tongue of the head model, put where people have them.

The upper teeth of the open head end where its resting upper lip does, so a mouth that opens would show none;
people show three to four millimetres. Its lower teeth and its tongue stand above the lower lip.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..head.model import LOWER_TEETH, TONGUE, UPPER_TEETH, HeadModel

UPPER_DOWN = 0.0045  # metres, as the three below; found on six portraits with open mouths
LOWER_DOWN, LOWER_BACK = 0.0022, 0.0010
TONGUE_DOWN, TONGUE_BACK = 0.0035, 0.0040
TONGUE_WIDER, TONGUE_FLATTER = 0.22, 0.25  # shares of its width and of its height


def teeth_offsets(head: HeadModel) -> Tensor:  # (V, 3) metres, head space at rest
    """Return how far teeth and tongue are moved; 0 for all other vertices and for heads without them."""
    offsets = torch.zeros_like(head.template)
    upper, lower, tongue = (
        head.faces[head.regions == region].unique() for region in (UPPER_TEETH, LOWER_TEETH, TONGUE)
    )
    offsets[upper, 1] -= UPPER_DOWN
    offsets[lower, 1] -= LOWER_DOWN
    offsets[lower, 2] -= LOWER_BACK
    if len(tongue):
        place = head.template[tongue]
        offsets[tongue, 0] += TONGUE_WIDER * place[:, 0]
        offsets[tongue, 1] -= TONGUE_DOWN + TONGUE_FLATTER * (place[:, 1] - place[:, 1].mean())
        offsets[tongue, 2] -= TONGUE_BACK
    return offsets
