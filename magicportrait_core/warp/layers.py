"""Colours with a soft mask, computed in work pixels and laid over the warped photo in photo pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .field import Window
from .fill import resize


@dataclass(frozen=True)
class Layer:
    window: Window  # within the frame's window, work pixels
    colour: Tensor  # (3, h, w) in [-1, 1]
    alpha: Tensor  # (1, h, w) 0..1
    label: int  # index into SOURCES
    invented: float = 1.0  # how much of it counts as hole


@dataclass(frozen=True)
class Canvas:
    """A frame in the making, photo pixels of the frame's window."""

    image: Tensor  # (3, H, W)
    hole: Tensor  # (1, H, W)
    labels: Tensor  # (H, W) int64
    scale: int  # photo pixels per work pixel

    def region(self, window: Window) -> tuple[slice, slice]:
        top, left = window.top * self.scale, window.left * self.scale
        return (
            slice(top, min(top + window.height * self.scale, self.image.shape[-2])),
            slice(left, min(left + window.width * self.scale, self.image.shape[-1])),
        )

    def lay(self, layer: Layer) -> None:
        """Blend one layer into this canvas, in place."""
        rows, columns = self.region(layer.window)
        size = (rows.stop - rows.start, columns.stop - columns.start)
        alpha = resize(layer.alpha[None], self.scale, size)[0]
        colour = resize(layer.colour[None], self.scale, size)[0]
        image = self.image[:, rows, columns]
        image += alpha * (colour - image)
        hole = self.hole[:, rows, columns]
        hole += alpha * (layer.invented - hole)
        labels = self.labels[rows, columns]
        labels[alpha[0] > 0.5] = layer.label

    def work(self, window: Window) -> Tensor:  # (3, h, w)
        """What is on the canvas so far, in work pixels."""
        rows, columns = self.region(window)
        part = self.image[:, rows, columns]
        if self.scale == 1:
            return part
        return torch.nn.functional.avg_pool2d(part[None], self.scale, ceil_mode=True)[0]
