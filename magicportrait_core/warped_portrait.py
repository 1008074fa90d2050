"""WarpedPortrait: the flow-warped portrait of a clip, as warp-preconditioned models read it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .warp.sources import MOUTH, OUTSIDE, PHOTO


@dataclass(frozen=True)
class WarpedPortrait:
    """8 bits, 4 bytes a pixel and frame."""

    portrait: Tensor  # (3, H, W) uint8, the still picture
    warp_levels: Tensor  # (F, 3, H, W) uint8, the picture moved by the flow
    labels: Tensor  # (F, 1, H, W) uint8, index into warp.sources.SOURCES

    @property
    def num_frames(self) -> int:
        return self.labels.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """height, width in pixels."""
        return self.labels.shape[-2], self.labels.shape[-1]

    def __getitem__(self, frames: slice) -> WarpedPortrait:
        return WarpedPortrait(self.portrait, self.warp_levels[frames], self.labels[frames])


def source_levels(
    labels: Tensor,  # (F, 1, H, W) uint8
) -> Tensor:  # (F, 3, H, W) uint8
    """The map "sources" that networks read: skin that the photo shows, skin made up, mouth; 0 or 255."""
    photo, mouth = labels == PHOTO, labels == MOUTH
    made_up = ~(photo | mouth | (labels == OUTSIDE))
    return torch.cat((photo, made_up, mouth), dim=1).to(torch.uint8) * 255
