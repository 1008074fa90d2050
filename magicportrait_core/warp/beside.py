"""Beside the moved face: hair or background, nothing of the face a second time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .field import Window
from .fill import blur, dilated, harmonic, pixel_centres, resize, sample
from .layers import Canvas
from .mirror import missing_skin
from .scene import Scene
from .source import COARSE

BESIDE = 0.1  # face widths around skin seen twice from which its colour is taken
EDGE = 0.03  # face widths on both sides of the moved head's outline that belong to it
REVEALED = 0.4  # face widths around skin that comes into view in which nothing thin is shown


def alpha_beside(
    scene: Scene,
    canvas: Canvas,  # of the moved foreground; changed where skin would be seen twice
    flow: Tensor,  # (2, h, w) work pixels of the window
    matte: Tensor,  # (1, H, W) moved through the flow, photo pixels of the window; changed as the canvas is
) -> Tensor:  # (1, H, W)
    """The matte of the frame: the moved one, and that of skin which the photo hides.

    Skin of the photo that lands beside the moved face would be seen twice: there canvas and matte are those
    around it, hair or nothing. Beside skin that comes into view thin things like glasses lose their hold:
    only hair is left there.
    """
    source, window, landing = scene.source, scene.window, scene.landing
    corner = landing.pixels.new_tensor([scene.near.left, scene.near.top])
    missing = missing_skin(source, scene.surface, landing, corner)
    hidden, covered = scene.surface.picture(torch.stack((missing, torch.ones_like(missing)), dim=1)).split(1)
    radius = EDGE * source.face_width
    new = _around(hidden * dilated(1 - covered, max(1, round(radius))), REVEALED * source.face_width)
    thinned = (new - _around(covered, radius)).clamp(min=0)
    thinned = resize(thinned[None], COARSE, scene.near.size)[0]
    whole = hidden.new_zeros(3, *window.size)
    scene.near.inside(window).of(whole).copy_(torch.cat((hidden, covered, thinned)))
    hidden, covered, thinned = whole.split(1)
    corner = flow.new_tensor([window.left, window.top])[:, None, None]
    landed = sample(source.layers.parts, pixel_centres(window.size, flow) + corner + flow)
    skin, thick = landed.split(1)
    beside = 1 - covered
    twice = beside * skin
    if bool(twice.any()):
        everywhere = Window(0, 0, *window.size)
        _, part = everywhere.trimmed(twice, round(BESIDE * source.face_width))
        _spread(canvas, matte, part, part.of(twice), part.of(beside * (twice == 0)))
    size = tuple(matte.shape[-2:])
    parts = torch.cat((hidden, covered, thinned * (1 - thick)))
    hidden, covered, gone = resize(parts[None], source.scale, size)[0].split(1)
    alpha = matte * (1 - gone)
    return alpha + hidden * (covered - alpha).clamp(min=0)


def _around(mask: Tensor, radius: float) -> Tensor:  # (1, h / COARSE, w / COARSE)
    """A mask and, softly, what lies within `radius` pixels of it."""
    cells = radius / COARSE
    grown = dilated(F.max_pool2d(mask[None], COARSE, ceil_mode=True)[0], max(1, round(cells)))
    return blur(grown[None], max(0.3 * cells, 0.5))[0]


def _spread(canvas: Canvas, matte: Tensor, place: Window, share: Tensor, known: Tensor) -> None:
    """Give a share of some pixels' colour and matte away to those of the known pixels around them."""
    rows, columns = canvas.region(place)
    photo = torch.cat((canvas.image, matte))[:, rows, columns]
    work = F.avg_pool2d(photo[None], canvas.scale, ceil_mode=True)
    around = harmonic(work, known[None])
    around, share = (resize(part, canvas.scale, photo.shape[-2:])[0] for part in (around, share[None]))
    photo = torch.lerp(photo, around, share)
    canvas.image[:, rows, columns], matte[:, rows, columns] = photo[:3], photo[3:]
