"""Two layers of a portrait: head, hair and body, which move, over a background that stays still."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..matting.guided_filter import box_mean
from .fill import blur, dilated, pull_push, resize, smoothstep
from .plate import still_background

MatteSource = Literal["network", "silhouette", "mask"]

HOLE = 0.05  # matte from which the background is not believed
SPREAD = 0.05  # face widths around that which are filled, too: hair and shadow colour them
SOLID, CLEAR = 0.95, 0.03  # matte of pixels that show one side alone
OPAQUE = 0.98  # matte from which the photo is the foreground
THIN = (0.02, 0.3)  # matte below which the foreground's colour is that of its surroundings
ROOM = 0.4  # face widths beyond the photo's border to which the foreground goes on
BEYOND = 0.06  # face widths beyond the photo's border over which what goes on there becomes smooth
CALM = 0.02  # face widths of motion over which the photo's own pixels give way to the two layers


COARSE_FACE = 64  # pixels of face width, at most, at which smooth parts are worked out


def pixels_per_cell(face_width: float) -> int:
    """Side of the squares of pixels that are one cell where faces are at most COARSE_FACE cells wide."""
    return math.ceil(face_width / COARSE_FACE)


@dataclass(frozen=True)
class TwoLayers:
    moving: Tensor  # (4, H + 2 room, W + 2 room) foreground in [-1, 1] and its matte 0..1
    plate: Tensor  # (3, H, W) in [-1, 1], the still background
    residual: Tensor  # (3, H, W), what the two leave of the photo
    filled: Tensor  # (1, H, W) 0 or 1, where the plate is made up
    parts: Tensor  # (2, h, w) 0..1, work pixels: skin well within the face, thick hair beside it
    room: int  # photo pixels
    origin: MatteSource

    @property
    def matte(self) -> Tensor:  # (1, H, W)
        room = self.room
        height, width = self.plate.shape[-2:]
        return self.moving[3:, room : room + height, room : room + width]

    @property
    def foreground(self) -> Tensor:  # (3, H, W)
        room = self.room
        height, width = self.plate.shape[-2:]
        return self.moving[:3, room : room + height, room : room + width]


def split_layers(
    image: Tensor,  # (3, H, W) in [-1, 1]
    matte: Tensor,  # (1, H, W) 0..1
    parts: Tensor,  # (2, h, w) 0..1, work pixels
    face_width: float,  # photo pixels
    origin: MatteSource,
) -> TwoLayers:
    """The layers of a photo. Where the matte is 1 the foreground is the photo, and the plate is the photo
    where there is nobody, bit for bit."""
    cell = pixels_per_cell(face_width)
    filled = dilated((matte > HOLE).float(), max(2, round(SPREAD * face_width)))
    plate = still_background(image, filled, cell, face_width / cell)
    foreground = _foreground(image, matte, cell)
    residual = image - torch.lerp(plate, foreground, matte)
    room = min(max(1, round(ROOM * face_width)), min(image.shape[-2:]) - 1)
    sides = (room, room, room, room)
    moving = F.pad(torch.cat((foreground, matte))[None], sides, mode="replicate")[0]
    moving = _smooth_beyond(moving, F.pad(torch.zeros_like(matte), sides, value=1.0), cell, face_width)
    return TwoLayers(moving, plate, residual, filled, parts, room, origin)


def _smooth_beyond(moving: Tensor, outside: Tensor, cell: int, face_width: float) -> Tensor:
    """Blur colours and matte beyond the photo's border (`outside`, 1 there), which would be stripes; the
    photo itself stays, bit for bit."""
    size, width = tuple(moving.shape[-2:]), BEYOND * face_width
    small = F.avg_pool2d(moving[None], cell, ceil_mode=True)
    smooth = resize(blur(small, max(width / cell, 0.5)), cell, size)[0]
    share = outside * (2 * box_mean(outside, max(1, round(width))) - 1).clamp(0, 1)
    return torch.lerp(moving, smooth, share)


def _foreground(image: Tensor, matte: Tensor, cell: int) -> Tensor:  # (3, H, W)
    """The person's colours without those of the background, spread to where there is no person: hair that
    moves needs its own colour around it. One step of blur fusion (Forte 2021, eq. 7), from the colours of
    what is surely person and surely background nearby."""
    size = tuple(image.shape[-2:])
    small, share = (F.avg_pool2d(part[None], cell, ceil_mode=True) for part in (image, matte))
    known = torch.cat((share > SOLID, share < CLEAR)).float()
    person, behind = resize(pull_push(small.expand(2, -1, -1, -1), known), cell, size)
    fused = (person + matte * (image - torch.lerp(behind, person, matte))).clamp(-1, 1)
    fused = torch.lerp(person, fused, smoothstep(*THIN, matte))
    return torch.where(matte > OPAQUE, image, fused)


def composed(
    layers: TwoLayers,
    image: Tensor,  # (3, H, W) the photo, of the window
    canvas: Tensor,  # (3, H, W) the moved foreground, of the window
    alpha: Tensor,  # (1, H, W) its matte
    shift: Tensor,  # (1, H, W) photo pixels that the flow moves
    face_width: float,  # photo pixels
    rows: slice,
    columns: slice,  # the window in the photo
) -> Tensor:  # (3, H, W)
    """The moved foreground over the plate. Where it has not changed this is the photo, bit for bit; with the
    first motion the residual goes, so that nothing jumps."""
    foreground = layers.foreground[:, rows, columns]
    calm = 1 - smoothstep(0, CALM * face_width, shift)
    picture = torch.lerp(layers.plate[:, rows, columns], canvas, alpha)
    picture = torch.addcmul(picture, layers.residual[:, rows, columns], calm).clamp_(-1, 1)
    same = (canvas == foreground).all(0, keepdim=True) & (alpha == layers.matte[:, rows, columns])
    return torch.where(same, image, picture)
