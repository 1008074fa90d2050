"""What one training step sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B clips of W frames (W = 1 in the first phase), 8-bit levels, pixels of the working size."""

    reference: Tensor  # (B, 3, H, W) uint8, the portrait
    frames: Tensor  # (B, W, 3, H, W) uint8, the truth
    maps: dict[str, Tensor]  # (B, W, 3, H, W) uint8, every one of ModelConfig.maps, as networks read it
    labels: Tensor | None = None  # (B, W, 1, H, W) uint8 of warp.sources, with models that have a prior
    latents: Tensor | None = (
        None  # (B, W, C, h, w) of the frames, where the data holds what a VAE makes of them
    )
    reference_latents: Tensor | None = None  # (B, C, h, w), both in the network's scale

    def to(self, device: torch.device) -> Batch:
        maps = {name: value.to(device) for name, value in self.maps.items()}
        rest = (self.labels, self.latents, self.reference_latents)
        there = (None if value is None else value.to(device) for value in rest)
        return Batch(self.reference.to(device), self.frames.to(device), maps, *there)

    def __getitem__(self, rows: slice) -> Batch:
        maps = {name: value[rows] for name, value in self.maps.items()}
        rest = (self.labels, self.latents, self.reference_latents)
        there = (None if value is None else value[rows] for value in rest)
        return Batch(self.reference[rows], self.frames[rows], maps, *there)
