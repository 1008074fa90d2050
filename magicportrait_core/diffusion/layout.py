"""Where the frames of each window lie among the latents, and the average of what windows predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from .segments import Windows

Coupling = Literal["every_step", "independent"]


@dataclass(frozen=True)
class Layout:
    """Latents have K slots: one for each covered frame, or one for each frame of each window."""

    frames: tuple[int, ...]  # K frame numbers
    slots: Windows  # of each window's frames
    first_slots: tuple[int, ...]  # of each covered frame, in rising order

    def gather(self, latents: Tensor, window: int) -> Tensor:
        """Latents (C, W, h, w) of a window from those of all slots (C, K, h, w)."""
        return latents[:, list(self.slots[window])]

    def average(self, predictions: Sequence[Tensor]) -> Tensor:
        """Mean (C, K, h, w) over the windows that hold a slot, of one prediction (C, W, h, w) a window."""
        channels, _, height, width = predictions[0].shape
        total = torch.zeros(channels, len(self.frames), height, width)
        count = torch.zeros(len(self.frames), 1, 1)
        for slots, prediction in zip(self.slots, predictions, strict=True):
            total[:, list(slots)] += prediction
            count[list(slots)] += 1
        return total.div_(count)


def lay_out(windows: Windows, coupling: Coupling) -> Layout:
    """every_step: windows share the slots of the frames that they share. independent: they share nothing."""
    if coupling not in get_args(Coupling):
        raise ValueError(f"coupling={coupling!r}; expected one of {', '.join(get_args(Coupling))}")
    if not windows or any(not window or len(set(window)) < len(window) for window in windows):
        raise ValueError(
            "there are no windows, or one has no frames or has a frame twice; plan_windows() gives a clip's"
        )
    covered = sorted({frame for window in windows for frame in window})
    if coupling == "every_step":
        slot_of = {frame: slot for slot, frame in enumerate(covered)}
        slots = tuple(tuple(slot_of[frame] for frame in window) for window in windows)
        return Layout(tuple(covered), slots, tuple(range(len(covered))))
    frames = tuple(frame for window in windows for frame in window)
    following = iter(range(len(frames)))
    slots = tuple(tuple(next(following) for _ in window) for window in windows)
    first_slot_of = {frame: slot for slot, frame in reversed(list(enumerate(frames)))}
    return Layout(frames, slots, tuple(first_slot_of[frame] for frame in covered))
