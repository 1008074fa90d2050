"""MagicPortraitModel: the networks that belong together, as they were loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .config import ModelConfig

if TYPE_CHECKING:
    from .appearance_net import AppearanceNet
    from .denoising_unet import DenoisingUNet
    from .guidance_encoder import GuidanceEncoders


@dataclass(frozen=True)
class MagicPortraitModel:
    """The three parts of one checkpoint. Each may lie on a device of its own."""

    config: ModelConfig
    appearance_net: AppearanceNet
    denoising_unet: DenoisingUNet
    guidance_encoders: GuidanceEncoders
    text: Tensor | None  # (1, N, D) embedding of the training prompt, where the files carry it
    fingerprint: str  # of the weights; two models with the same one give the same pictures
    name: str  # for people: the folder's name

    @property
    def dtype(self) -> torch.dtype:
        return next(self.denoising_unet.parameters()).dtype
