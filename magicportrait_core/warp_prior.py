"""What a warp-preconditioned model knows of a clip before its networks speak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .diffusion.preconditioning import prior_deviation
from .models.config import ModelConfig
from .pixel_unshuffle import PixelUnshuffle


@dataclass(frozen=True)
class WarpPrior:
    """The flow-warped portrait at the working size; 4 bytes a pixel and frame."""

    picture: Tensor  # (F, 3, H, W) uint8, on the CPU
    labels: Tensor  # (F, 1, H, W) uint8, index into warp.sources.SOURCES
    portrait: Tensor | None = None  # (3, H, W) uint8, the picture that was moved

    def window(
        self,
        frames: Sequence[int],
        config: ModelConfig,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:  # (C, W, h, w) and (1, W, h, w), in the network's scale
        """Mean and standard deviation of the clean latents of some frames."""
        where, cells = list(frames), PixelUnshuffle(config.pixels_per_cell)
        mean = cells.encode(self.picture[where].to(device).float() / 127.5 - 1)
        deviation = prior_deviation(self.labels[where].to(device), config.prior, config.pixels_per_cell)
        return tuple((x * config.latent_scale).to(dtype).movedim(0, 1) for x in (mean, deviation))
