"""SMIRK's expression encoder: a face crop as FLAME's expression, eyelids and jaw.

Retsinas et al. 2024; sizes and limits as in the published checkpoint (SMIRK_em1.pt).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .mobilenet_v3 import LARGE_FEATURES, MobileNetV3

NUM_EXPRESSION, NUM_EYELIDS, NUM_JAW = 50, 2, 3
MOST_JAW_TURN = 0.2  # radians sideways; opening has no limit, but never closes beyond rest


@dataclass(frozen=True)
class SmirkCodes:
    expression: Tensor  # (F, 50)
    eyelids: Tensor  # (F, 2) left, right, 0 open .. 1 closed; the released system drops them
    jaw: Tensor  # (F, 3) axis-angle


def smirk_codes(
    raw: Tensor,  # (F, 55) of the encoder
) -> SmirkCodes:
    """The encoder's numbers by name, eyelids and jaw within their limits."""
    expression, eyelids, jaw = raw.split((NUM_EXPRESSION, NUM_EYELIDS, NUM_JAW), dim=1)
    jaw = torch.cat((jaw[:, :1].relu(), jaw[:, 1:].clamp(-MOST_JAW_TURN, MOST_JAW_TURN)), 1)
    return SmirkCodes(expression, eyelids.clamp(0, 1), jaw)


class SmirkExpressionEncoder(nn.Module):
    """(F, 3, 224, 224) RGB in 0..1 -> (F, 55)."""

    def __init__(self):
        super().__init__()
        self.encoder = MobileNetV3()
        self.expression_layers = nn.Sequential(
            nn.Linear(LARGE_FEATURES, NUM_EXPRESSION + NUM_EYELIDS + NUM_JAW)
        )

    def forward(self, crops: Tensor) -> Tensor:
        return self.expression_layers(self.encoder(crops).mean((2, 3)))

    @property
    def device(self) -> torch.device:
        return self.expression_layers[0].weight.device
