"""Colours with a soft mask, computed in work pixels and laid over the warped photo in photo pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .field import Window
from .fill import pixel_centres, resize, sample, smoothstep
from .source import WarpSource
from .sources import MIRRORED, PHOTO

TEAR = (2.5, 4.5)  # pixels of flow between neighbours that count as a tear: not, fully
PIXELS_AT_ONCE = 1 << 18  # sampled together: what fits the cache, and bounds memory for large photos
STILL = 2e-3  # work pixels of flow that count as none: the photo itself is shown


@dataclass(frozen=True)
class Layer:
    window: Window  # within the frame's window, work pixels
    colour: Tensor  # (3, h, w) in [-1, 1], of the window in work pixels or already in photo pixels
    alpha: Tensor  # (1, h, w) 0..1
    label: int  # index into SOURCES
    invented: Tensor | float = 1.0  # (1, h, w) how much of it counts as hole and takes the label


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
        colour = layer.colour
        if tuple(colour.shape[-2:]) != size:
            colour = resize(colour[None], self.scale, size)[0]
        invented = layer.invented
        if isinstance(invented, Tensor):
            invented = resize(invented[None], self.scale, size)[0]
        self.image[:, rows, columns] = torch.lerp(self.image[:, rows, columns], colour, alpha)
        hole = self.hole[:, rows, columns]
        hole += alpha * (invented - hole)
        labels = self.labels[rows, columns]
        if layer.label == MIRRORED:
            invented = 1.0
        labels[(alpha > 0.5)[0]] = PHOTO
        labels[(alpha * invented > 0.5)[0]] = layer.label

    def work(self, window: Window) -> Tensor:  # (3, h, w)
        """What is on the canvas so far, in work pixels."""
        rows, columns = self.region(window)
        part = self.image[:, rows, columns]
        if self.scale == 1:
            return part
        return F.avg_pool2d(part[None], self.scale, ceil_mode=True)[0]


def soften_tears(
    image: Tensor,  # (3, H, W)
    flow: Tensor,  # (2, H, W) pixels
) -> Tensor:  # (3, H, W)
    """Take the stairs off edges where the flow jumps, such as a chin over its neck."""
    jump = torch.zeros_like(flow[:1])
    for step in (flow[:, 1:] - flow[:, :-1], flow[:, :, 1:] - flow[:, :, :-1]):
        size = step.abs().amax(0, keepdim=True)
        ahead = jump[:, : size.shape[1], : size.shape[2]]
        torch.maximum(ahead, size, out=ahead)
    torn = smoothstep(*TEAR, jump)
    if float(torn.max()) == 0:
        return image
    torn = F.max_pool2d(torn[None], 3, 1, 1)
    torn = F.avg_pool2d(torn, 3, 1, 1, count_include_pad=False)[0]
    smooth = F.avg_pool2d(F.pad(image[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0]
    return torch.lerp(image, smooth, torn)


def photo_size(source: WarpSource, window: Window) -> tuple[int, int]:
    """Photo pixels that a window of the work picture covers."""
    height, width = source.image.shape[-2:]
    return (
        min(window.height * source.scale, height - window.top * source.scale),
        min(window.width * source.scale, width - window.left * source.scale),
    )


def sample_photo(
    source: WarpSource,
    window: Window,  # of the work picture
    flow: Tensor,  # (2, h, w) work pixels
) -> Tensor:  # (3, H, W) photo pixels of the window
    """What moves of the photo through a flow, at its full resolution; pixels that do not move are copied."""
    return sample_moving(source, window, flow)[:3]


def sample_moving(
    source: WarpSource,
    window: Window,  # of the work picture
    flow: Tensor,  # (2, h, w) work pixels
) -> Tensor:  # (3 or 4, H, W) photo pixels of the window
    """The photo, or the foreground and its matte where there are two layers, through a flow."""
    scale, room = source.scale, 0
    picture = source.image
    if source.layers is not None:
        picture, room = source.layers.moving, source.layers.room
    size = photo_size(source, window)
    fine = resize(flow[None], scale, size)[0]
    top, left = window.top * scale + room, window.left * scale + room
    out = picture[:, top : top + size[0], left : left + size[1]].clone()
    rows = max(1, PIXELS_AT_ONCE // size[1])
    for begin in range(0, size[0], rows):
        part = fine[:, begin : begin + rows]
        moving = (part.abs().amax(0) > STILL)[None]
        if not bool(moving.any()):
            continue
        corner = part.new_tensor([left, top + begin])[:, None, None]
        pixels = pixel_centres(tuple(part.shape[-2:]), part) + corner + scale * part
        moved = sample(picture, pixels, "bicubic")
        moved[:3].clamp_(-1, 1)
        moved[3:].clamp_(0, 1)
        here = out[:, begin : begin + rows]
        here.copy_(torch.where(moving, moved, here))
    return out
