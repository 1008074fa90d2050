"""One continuous backward flow for skin, hair and what is around them.

Seen skin follows the surface. The rest follows the rigid flow of the head's middle plane, as far as the
head carries it (WarpSource.moves), plus a harmonic extension of what the surface does beyond that. So hair
and hats travel with the head, shoulders stay, and there is no seam at the silhouette. Where there are two
layers the flow moves the foreground alone; else it bends the background, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..rendering.flow import facing_confidence, visible_in_source
from .anatomy import SKIN_CLASS
from .fill import blur, harmonic, pixel_centres, resize, sample, smoothstep
from .motion import SkullMotion
from .source import COARSE, WarpSource
from .surface import VisibleSurface

REACH = 0.35  # face widths beyond the mesh where the harmonic extension is solved
GLUE = 0.10  # face widths over which it fades
SLOPE = 2.2  # the falloff is at least this many times the largest shift long: keeps the flow invertible


@dataclass(frozen=True)
class Window:
    """A rectangle of the work picture, aligned to the coarse cells."""

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def of(self, picture: Tensor) -> Tensor:
        """That part of a picture (..., h, w)."""
        return picture[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def inside(self, outer: Window) -> Window:
        """The same rectangle, relative to another."""
        return Window(self.top - outer.top, self.left - outer.left, self.height, self.width)

    def cut_to(self, outer: Window) -> Window:
        """What lies within another rectangle."""
        top, left = max(self.top, outer.top), max(self.left, outer.left)
        bottom = min(self.top + self.height, outer.top + outer.height)
        right = min(self.left + self.width, outer.left + outer.width)
        return Window(top, left, max(bottom - top, 0), max(right - left, 0))

    def trimmed(
        self,
        mask: Tensor,  # (1, h, w) of this window
        room: int = 4,  # pixels kept around it
    ) -> tuple[Window, Window]:
        """The part of this window where the mask is not 0: in the work picture, and within this window."""
        rows = (mask[0] > 0).any(1).nonzero().squeeze(1).tolist() or [0]
        columns = (mask[0] > 0).any(0).nonzero().squeeze(1).tolist() or [0]
        top, left = max(rows[0] - room, 0), max(columns[0] - room, 0)
        bottom, right = min(rows[-1] + 1 + room, self.height), min(columns[-1] + 1 + room, self.width)
        part = Window(top, left, bottom - top, right - left)
        return Window(self.top + top, self.left + left, part.height, part.width), part


@dataclass(frozen=True)
class Landing:
    """Where the covered pixels of the target come from in the portrait."""

    pixels: Tensor  # (P, 2) work pixels of the portrait
    confidence: Tensor  # (P,) 0..1, how well the portrait shows that skin


def window_around(
    points: Tensor,  # (N, 2) work pixels
    margin: float,
    size: tuple[int, int],  # of the work picture
) -> Window:
    low, high = points.amin(0) - margin, points.amax(0) + margin
    left = int(low[0].clamp(0, size[1] - 1)) // COARSE * COARSE
    top = int(low[1].clamp(0, size[0] - 1)) // COARSE * COARSE
    right, bottom = int(high[0].clamp(1, size[1])) + 1, int(high[1].clamp(1, size[0])) + 1
    right, bottom = (-(-end // COARSE) * COARSE for end in (right, bottom))
    return Window(top, left, max(min(bottom, size[0]) - top, 1), max(min(right, size[1]) - left, 1))


def surface_landing(
    source: WarpSource,
    surface: VisibleSurface,
    target_facing: Tensor,  # (V,)
    mirrored: bool = False,
) -> Landing:
    """Source pixels of the target's surface, through the same or (mirrored) the opposite side of the face."""
    vertices, cosines = source.vertices, source.facing
    if mirrored:
        vertices, cosines = vertices[source.head.mirror], cosines[source.head.mirror]
    values = surface.at_pixels(torch.cat((vertices, cosines[:, None], target_facing[:, None]), dim=1))
    pixels = source.camera.project_camera(values[None, :, :3])[0]
    seen = visible_in_source(pixels, source.maps[0])
    return Landing(pixels[:, :2], seen * facing_confidence(values[:, 3], values[:, 4]))


def plane_flow(
    source: WarpSource,
    motion: SkullMotion,
    pixels: Tensor,  # (2, h, w) work pixels of the target
    depth: float,  # metres, of the head's middle plane in the portrait
    centre: Tensor,  # (3,) camera space, a point on that plane
) -> Tensor:  # (2, h, w)
    """Flow of a billboard through the head that moves rigidly with the skull."""
    moved = -float(motion.to_target(centre)[2])
    flat = pixels.reshape(2, -1).T
    deep = torch.cat((flat - motion.aside, torch.full_like(flat[:, :1], moved)), dim=1)
    back = source.camera.project_camera(motion.to_source(source.camera.unproject(deep[None])))[0, :, :2]
    return (back - flat).T.reshape(pixels.shape)


def carried_flow(
    source: WarpSource,
    motion: SkullMotion,
    window: Window,
    depth: float,
    centre: Tensor,
    largest: float,  # work pixels, the largest shift of the head
) -> tuple[Tensor, Tensor]:  # (2, h, w), (1, h, w) at 1/COARSE of the window
    """The rigid flow and the share of it that is followed.

    The share is read in the portrait at the place each pixel comes from (three fixed-point steps), so that
    falloff and pinned shoulders are attached to the photo and do not swim.
    """
    cells = (-(-window.height // COARSE), -(-window.width // COARSE))
    centres = pixel_centres(cells, source.work) * COARSE
    centres = centres + centres.new_tensor([window.left, window.top])[:, None, None]
    rigid = plane_flow(source, motion, centres, depth, centre)
    near = source.options.hair * source.face_width
    far = near + max(source.options.falloff * source.face_width, SLOPE * largest)
    share = torch.ones_like(rigid[:1])
    for _ in range(3):
        carried, distance = sample(source.moves, (centres + share * rigid) / COARSE)
        share = (carried * (1 - smoothstep(near, far, distance)))[None]
    return rigid, share


def skin_flow(
    source: WarpSource,
    surface: VisibleSurface,  # in `near`
    landing: Landing,
    rigid: Tensor,  # (2, h, w) of `near`
    share: Tensor,  # (1, h, w)
    near: Window,
) -> Tensor:  # (2, h, w) of `near`
    """The flow around and on the head: surface where it is known, rigid plus harmonic extension elsewhere."""
    classes, neck = source.anatomy.classes[surface.triangle], source.anatomy.neck[surface.triangle]
    is_skin = (classes == SKIN_CLASS).float()
    own = landing.pixels - surface.centres() - landing.pixels.new_tensor([near.left, near.top])
    packed = torch.cat(
        (own, torch.stack((landing.confidence * is_skin, neck.float(), torch.ones_like(is_skin)), dim=1)),
        dim=1,
    )
    picture = surface.picture(packed)
    own, confidence, neck, covered = picture[:2], picture[2:3], picture[3:4], picture[4:5]
    followed = share * rigid
    rest = (own - followed) * covered
    weights = torch.stack((confidence, confidence * (1 - neck), confidence * neck))
    extended = harmonic(rest.expand(3, -1, -1, -1), weights)
    on_head = covered * (1 - neck)
    chosen = extended[0] + on_head * (extended[1] - extended[0]) + neck * (extended[2] - extended[0])
    sigma = GLUE * source.face_width / COARSE
    small = F.avg_pool2d(covered[None], COARSE, ceil_mode=True)
    glue = resize((2 * blur(small, max(sigma, 0.5))).clamp(max=1), COARSE, near.size)[0]
    beyond = followed + torch.maximum(glue, covered) * chosen
    return beyond + confidence * (own - beyond)
