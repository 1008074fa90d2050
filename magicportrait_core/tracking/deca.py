"""DECA's coarse encoder: a face crop as FLAME's shape, pose and camera, and the codes of texture and light.

Feng et al. 2021; sizes and order of the codes as in the published checkpoint (deca_model.tar, E_flame).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

NUM_SHAPE, NUM_TEXTURE, NUM_EXPRESSION, NUM_POSE, NUM_CAMERA, NUM_LIGHT = 100, 50, 50, 6, 3, 27
CODE_SIZES = (NUM_SHAPE, NUM_TEXTURE, NUM_EXPRESSION, NUM_POSE, NUM_CAMERA, NUM_LIGHT)
FEATURES, HIDDEN = 2048, 1024


@dataclass(frozen=True)
class DecaCodes:
    """What DECA says of faces; `expression` and `jaw` are not used by the released system (SMIRK's are)."""

    shape: Tensor  # (F, 100) FLAME identity, standard deviations
    texture: Tensor  # (F, 50)
    expression: Tensor  # (F, 50)
    rotation: Tensor  # (F, 3) axis-angle of the whole head
    jaw: Tensor  # (F, 3) axis-angle
    scale_shift: Tensor  # (F, 3) weak-perspective camera in the crop: s, tx, ty
    light: Tensor  # (F, 9, 3) spherical harmonics


def deca_codes(
    raw: Tensor,  # (F, 236) of the encoder
) -> DecaCodes:
    """The encoder's numbers by name."""
    shape, texture, expression, pose, scale_shift, light = raw.split(CODE_SIZES, dim=1)
    return DecaCodes(
        shape, texture, expression, pose[:, :3], pose[:, 3:], scale_shift, light.unflatten(1, (9, 3))
    )


class DecaEncoder(nn.Module):
    """(F, 3, 224, 224) RGB in 0..1, not normalised -> (F, 236)."""

    def __init__(self):
        super().__init__()
        from torchvision.models import resnet50  # late: takes a second

        self.encoder = resnet50(weights=None)
        self.encoder.fc = nn.Identity()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, sum(CODE_SIZES))
        )

    def forward(self, crops: Tensor) -> Tensor:
        return self.layers(self.encoder(crops))

    @property
    def device(self) -> torch.device:
        return self.layers[0].weight.device
