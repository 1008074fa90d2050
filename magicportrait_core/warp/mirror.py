"""The opposite side of the face, where a turned portrait shows it better than the side that is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .anatomy import SKIN_CLASS
from .field import Landing, surface_landing
from .fill import smoothstep
from .motion import MovedHead
from .source import WarpSource
from .surface import VisibleSurface

LEAST = 0.02  # masks below this everywhere are not used
MOVED = (0.005, 0.02)  # face widths of motion over which repairs come in: nothing is missing at rest


@dataclass(frozen=True)
class Mirror:
    landing: Landing  # through the opposite side of the face
    alpha: Tensor  # (P,) 0..1, how much of it is used


def bare_skin(source: WarpSource, surface: VisibleSurface) -> Tensor:  # (P,) 0..1
    """Skin of the face without scalp and neck, by pixel."""
    is_skin = source.anatomy.classes[surface.triangle] == SKIN_CLASS
    return surface.at_pixels(source.anatomy.cheek[:, None])[:, 0] * is_skin


def missing_skin(
    source: WarpSource,
    surface: VisibleSurface,
    landing: Landing,
    corner: Tensor,  # (2,) x, y of the surface's window, work pixels
) -> Tensor:  # (P,) 0..1
    """Bare skin that moved and that the photo shows badly."""
    moved = (landing.pixels - surface.centres() - corner).norm(dim=-1) / source.face_width
    return (1 - landing.confidence) * bare_skin(source, surface) * smoothstep(*MOVED, moved)


def mirror_of(
    source: WarpSource, head: MovedHead, surface: VisibleSurface, landing: Landing, corner: Tensor
) -> Mirror | None:
    if not source.options.mirror:
        return None
    wanted = missing_skin(source, surface, landing, corner)
    if not len(wanted) or float(wanted.max()) < LEAST:
        return None
    other = surface_landing(source, surface, head.facing, mirrored=True)
    alpha = wanted * other.confidence
    return Mirror(other, alpha) if float(alpha.max()) >= LEAST else None
