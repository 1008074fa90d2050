"""What a head's skin looks like: albedo on its texture and the light it stands in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .head.colours import part_colours
from .head.model import REGIONS, HeadModel
from .head.texture_space import TextureSpace
from .rendering.texture import paint_faces
from .tracking.track import FaceTrack

PLAIN_GREY = 0.7
# Half ambient, half a soft lamp above and left of the camera; see rendering.shading.spherical_harmonics.
PLAIN_LIGHT = (2.2, -0.18, 0.25, 0.36, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class HeadAppearance:
    """Colour without light in the head's texture layout, and second-order spherical-harmonics light."""

    albedo: Tensor  # (3, S, S) 0..1, first row at v = 1
    light: Tensor  # (9, 3), camera axes

    def __post_init__(self):
        side = self.albedo.shape[-1]
        if self.albedo.shape != (3, side, side) or self.light.shape != (9, 3):
            raise ValueError(
                f"appearance needs albedo (3, S, S) and light (9, 3), got {tuple(self.albedo.shape)} and "
                f"{tuple(self.light.shape)}"
            )

    def to(self, device: torch.device | str) -> HeadAppearance:
        return replace(self, albedo=self.albedo.to(device), light=self.light.to(device))


def plain_appearance(head: HeadModel, size: int = 512) -> HeadAppearance:
    """Grey skin; eyes, teeth, tongue and the inside of the mouth in plain colours; a soft frontal light."""
    colours = part_colours(head)
    colours[outer_skin(head)] = PLAIN_GREY
    light = torch.tensor(PLAIN_LIGHT, device=head.device)[:, None].expand(9, 3).contiguous()
    return HeadAppearance(paint_faces(head.uvs, head.faces_uv, colours, size), light)


def released_appearance(space: TextureSpace, portrait: FaceTrack) -> HeadAppearance:
    """FLAME's skin and the light as DECA saw them in the portrait; raises ValueError where a track has no
    codes."""
    if portrait.texture is None or portrait.light is None:
        raise ValueError(
            "the portrait's track has no texture and light codes; track the portrait with DECA and SMIRK, or "
            "take the skin from the picture"
        )
    return HeadAppearance(space.albedo(portrait.texture)[0], portrait.light[0])


def outer_skin(head: HeadModel) -> Tensor:  # (T,) bool
    """The faces of the skin that can be seen with the mouth closed."""
    return (head.regions == REGIONS.index("skin")) & ~head.cavity
