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

    def to(self, device: torch.device) -> Batch:
        maps = {name: value.to(device) for name, value in self.maps.items()}
        labels = None if self.labels is None else self.labels.to(device)
        return Batch(self.reference.to(device), self.frames.to(device), maps, labels)
