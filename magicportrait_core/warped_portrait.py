"""WarpedPortrait: the flow-warped portrait of a clip, as warp-preconditioned models read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from PIL import Image
from torch import Tensor

from .mapped_tensors import room
from .media.image import to_levels
from .resampling import resized_labels, resized_levels
from .warp.clip import warp_clip
from .warp.sources import MOUTH, OUTSIDE, PHOTO

if TYPE_CHECKING:
    from .tracking.track import FaceTrack
    from .warp.source import WarpSource


class WarpedSource(Protocol):
    """A WarpedPortrait, or what makes parts of one when a slice is asked for."""

    @property
    def num_frames(self) -> int: ...

    @property
    def size(self) -> tuple[int, int]: ...

    def __getitem__(self, frames: slice) -> WarpedPortrait: ...


@dataclass(frozen=True)
class WarpedPortrait:
    """8 bits, 4 bytes a pixel and frame."""

    portrait: Tensor  # (3, H, W) uint8, the still picture
    warp_levels: Tensor  # (F, 3, H, W) uint8, the picture moved by the flow
    labels: Tensor  # (F, 1, H, W) uint8, index into warp.sources.SOURCES
    turn: Tensor  # (F,) float32 degrees, WarpFrame.turn

    @property
    def num_frames(self) -> int:
        return self.labels.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """height, width in pixels."""
        return self.labels.shape[-2], self.labels.shape[-1]

    def __getitem__(self, frames: slice) -> WarpedPortrait:
        return replace(
            self,
            warp_levels=self.warp_levels[frames],
            labels=self.labels[frames],
            turn=self.turn[frames],
        )

    def resized(self, size: tuple[int, int]) -> WarpedPortrait:
        """At another height and width: the still picture as resize_portrait does it, the warp as maps."""
        return WarpedPortrait(
            resized_levels(self.portrait[None], size, Image.Resampling.LANCZOS)[0],
            resized_levels(self.warp_levels, size),
            resized_labels(self.labels, size),
            self.turn,
        )

    def maps(self) -> dict[str, Tensor]:  # (F, 3, H, W) uint8 each
        """What networks read of it, by models.config.WARP_MAPS."""
        still = self.portrait.expand(self.num_frames, -1, -1, -1)
        return {"warp": self.warp_levels, "portrait": still, "sources": source_levels(self.labels)}


def record_warp(
    source: WarpSource,
    target: FaceTrack,  # F frames, aligned to the portrait
    on_frame: Callable[[int, int], None] | None = None,  # (frames done, frames in all); may raise to cancel
    store: Path | None = None,  # a file to keep the warp in, instead of memory
) -> WarpedPortrait:
    """The portrait warped through a whole track, in 8 bits."""
    height, width = source.image.shape[-2:]
    kept = room((target.num_frames, 4, height, width), torch.uint8, store, "warped portrait")
    turn = torch.zeros(target.num_frames)
    for i, frame in enumerate(warp_clip(source, target, on_frame)):
        kept[i, :3] = to_levels(frame.image).movedim(-1, 0)
        kept[i, 3] = frame.source_map.to("cpu", torch.uint8)
        turn[i] = frame.turn
    still = to_levels(source.image).movedim(-1, 0)
    return WarpedPortrait(still, kept[:, :3], kept[:, 3:], turn)


def source_levels(
    labels: Tensor,  # (F, 1, H, W) uint8
) -> Tensor:  # (F, 3, H, W) uint8
    """The map "sources" that networks read: skin that the photo shows, skin made up, mouth; 0 or 255."""
    photo, mouth = labels == PHOTO, labels == MOUTH
    made_up = ~(photo | mouth | (labels == OUTSIDE))
    return torch.cat((photo, made_up, mouth), dim=1).to(torch.uint8) * 255
