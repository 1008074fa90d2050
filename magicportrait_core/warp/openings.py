"""The openings of the face: how far eyes and mouth changed, keeping skin out of them and eyes inside them.

The mesh's lids and lips lie within about a pixel of the photo's. At rest that does not matter, all flows are
zero; once a lid or a lip moves, skin must not carry a line of eye or teeth along, nor an eye a line of lid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..tracking.covers import is_covered
from .anatomy import INNER_LIPS, LEFT_EYE_OPENING, RIGHT_EYE_OPENING
from .fill import ramp, sample
from .source import WarpSource

RIGHT_EYE, LEFT_EYE, LIPS = range(3)
CONTOURS = (RIGHT_EYE_OPENING, LEFT_EYE_OPENING, INNER_LIPS)
ZONE_OF = ("right_eye", "left_eye", "mouth")
MAP_OF = (1, 2, 3)  # rows of WarpSource.maps
MARGINS = (0.006, 0.006, 0.018)  # face widths kept between what is sampled and the contour


@dataclass(frozen=True)
class Opening:
    which: int
    contour: Tensor  # (K, 2) work pixels, target
    change: float  # 0..1, how much of a repair its motion calls for; 0 at rest, and where it is covered


def openings_of(
    source: WarpSource,
    marks: Tensor,  # (478, 3) of the target mesh, work pixels
    gaze: tuple[float, float],  # work pixels the right and left iris moved within the opening
) -> list[Opening]:
    out = []
    for which, points in enumerate(CONTOURS):
        before, after = source.mesh_landmarks[list(points)], marks[list(points), :2]
        deformed = (after - after.mean(0)) - (before - before.mean(0))
        moved = float(deformed.norm(dim=-1).max())
        if which != LIPS:
            moved = max(moved, gaze[which])
        if is_covered(source.track, ZONE_OF[which]):
            moved = 0.0
        out.append(Opening(which, after, ramp(0.002, 0.012, moved / source.face_width)))
    return out


def keep_out(
    source: WarpSource,
    pixels: Tensor,  # (P, 2) work pixels of the portrait
    opening: Opening,
    inside: bool = False,
) -> Tensor:  # (P, 2)
    """Pixels moved to the nearest place outside (or inside) the photo's opening, as far as it changed."""
    if opening.change == 0 or not len(pixels):
        return pixels
    distance, normal = distance_and_normal(source.maps[MAP_OF[opening.which]], pixels)
    margin = MARGINS[opening.which] * source.face_width
    if inside:
        excess = -(distance + margin).clamp(min=0)
    else:
        excess = (margin - distance).clamp(min=0)
    return pixels + opening.change * excess[:, None] * normal


def distance_and_normal(
    chart: Tensor,  # (H, W) signed distance
    pixels: Tensor,  # (P, 2) in pixels of the chart
) -> tuple[Tensor, Tensor]:  # (P,), (P, 2) unit, away from the inside
    step = 0.5
    shifts = pixels.new_tensor([[0, 0], [step, 0], [-step, 0], [0, step], [0, -step]])
    around = (pixels[None] + shifts[:, None]).permute(2, 0, 1)  # (2, 5, P)
    distance, right, left, below, above = sample(chart[None], around)[0]
    normal = torch.stack((right - left, below - above), dim=-1)
    return distance, normal / normal.norm(dim=-1, keepdim=True).clamp(min=1e-6)


def keep_skin_out(
    source: WarpSource,
    pixels: Tensor,  # (P, 2) work pixels of the portrait, of any part of the surface
    is_skin: Tensor,  # (P,) bool
    openings: list[Opening],
) -> Tensor:  # (P, 2)
    """Skin that lands in an opening of the photo, or on its very edge, moved out of it."""
    for opening in openings:
        if opening.change == 0:
            continue
        contour = source.landmarks[list(CONTOURS[opening.which])]
        room = 2 * MARGINS[opening.which] * source.face_width + 1
        close = (pixels > contour.amin(0) - room).all(1) & (pixels < contour.amax(0) + room).all(1) & is_skin
        index = close.nonzero().squeeze(1)
        pixels = pixels.index_copy(0, index, keep_out(source, pixels[index], opening))
    return pixels
