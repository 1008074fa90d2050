"""GuidanceMaps -> MotionFeatures: what the Geometric Guidance Encoders make of a clip's maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MotionFeatures:
    """Summed features of all maps, in the encoders' precision; those of long clips lie in a mapped file."""

    values: Tensor  # (F, E, h, w) in the precision of the encoders, on the CPU
    fingerprint: str  # of the maps, the encoders and the strengths

    @property
    def num_frames(self) -> int:
        return self.values.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in latent cells."""
        return self.values.shape[-2], self.values.shape[-1]

    def window(
        self, frames: tuple[int, ...], device: torch.device, dtype: torch.dtype
    ) -> Tensor:  # (E, W, h, w)
        """The features of some frames, in the network's layout."""
        return self.values[list(frames)].to(device, dtype).movedim(0, 1)
