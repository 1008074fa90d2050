"""Eyes: the photo's own eyeball turned by the gaze, under lids that open and close."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .anatomy import EYE_CORNERS, LID_MIDDLES, SKIN_CLASS
from .field import window_around
from .fill import blur, pixel_centres, pull_push, ramp, resize, sample, smoothstep
from .layers import Canvas, Layer, sample_photo
from .motion import MovedHead
from .openings import Opening, keep_out
from .scene import Scene
from .source import WarpSource
from .sources import FILLED, PHOTO
from .surface import VisibleSurface

ROOM = 0.06  # face widths around the opening
CLOSING = (0.25, 0.7)  # share of the opening that went away
UNFOLDED = (0.35, 0.65)  # source rows per target row below and above which lid skin is unreadable, readable
LID_SOFTNESS = 0.012  # face widths
LASH = 0.012  # face widths, half the thickness of the lash line
LASH_STRENGTH = 0.7
GAP = 0.012  # face widths below the lower lid from where skin is taken: past its lashes
SHUT = (0.02, 0.035)  # face widths between the photo's lids: shut, open enough to be read
OPENING = (0.008, 0.02)  # face widths by which it opens over which it is drawn
IRIS, PUPIL = (0.42, 0.32, 0.25), 0.12  # of the white
DRAWN_EDGE = 0.8  # pixels of softness of a drawn iris
EDGE = 0.6  # pixels of softness where the lid meets the eye


def eye_layer(scene: Scene, opening: Opening) -> Layer | None:
    """One eye, sampled from the photo through the eyeball's flow, or drawn where the photo shows it shut.

    None when it is not seen.
    """
    source, surface, near = scene.source, scene.surface, scene.near
    chosen = (source.anatomy.eye_side[surface.triangle] == opening.which).nonzero().squeeze(1)
    if len(chosen) < 4:
        return None
    box = window_around(opening.contour, ROOM * source.face_width, source.camera.size)
    pixels = keep_out(source, scene.landing.pixels[chosen], opening, inside=True)
    eye = surface.select(chosen)
    shift = pixels - eye.centres() - pixels.new_tensor([near.left, near.top])
    picture = eye.picture(torch.cat((shift, torch.ones_like(shift[:, :1])), dim=1))
    picture = box.inside(near).of(picture)
    flow, covered = picture[:2], picture[2:]
    flow = pull_push(flow[None], covered[None])[0]
    alpha = blur(covered[None], EDGE)[0]
    colour = sample_photo(source, box, flow)
    drawn = opening.change * _opened(source, scene.head, opening.which)
    if drawn > 0:
        own = box.inside(near).of(eye.picture(_drawn(source, eye)))
        own = blur(pull_push(own[None], covered[None]), DRAWN_EDGE)
        colour = torch.lerp(colour, resize(own, source.scale, tuple(colour.shape[-2:]))[0], drawn)
    return Layer(box.inside(scene.window), colour, alpha, FILLED if drawn > 0.5 else PHOTO, drawn)


def _opened(source: WarpSource, head: MovedHead, which: int) -> float:
    """How little the photo shows of an eye that opens: 0 enough, or it does not open .. 1 it is shut there.
    Always 0 for heads that have no irises to draw."""
    if not bool(source.head.iris.any()):
        return 0.0
    upper, lower = LID_MIDDLES[which]
    seen, after, before = (
        float((marks[lower] - marks[upper])[:2].norm()) / source.face_width
        for marks in (source.landmarks, head.marks, source.mesh_landmarks)
    )
    return (1 - ramp(*SHUT, seen)) * ramp(*OPENING, after - before)


def _drawn(source: WarpSource, eye: VisibleSurface) -> Tensor:  # (P, 3)
    """White, iris and pupil of the head model in the light of this face."""
    light = ((source.skin + 1) / 2).clamp(0.05, 1)
    white = light.mean() * (0.75 + 0.25 * light / light.mean())
    colours = torch.stack((white, white * light.new_tensor(IRIS), white * PUPIL))
    return colours[source.head.iris[eye.triangle]] * 2 - 1


def lid_layer(scene: Scene, opening: Opening, canvas: Canvas) -> Layer | None:
    """Lid skin that unfolds over the eye: skin from below it with a lash line, instead of stretched lashes.

    The photo shows an open eye's lid as a line or two of pixels; magnified three times nothing can be read.
    """
    source, surface, near = scene.source, scene.surface, scene.near
    closing = _closing(source, scene.head, opening)
    if closing == 0:
        return None
    box = window_around(opening.contour, 3 * ROOM * source.face_width, source.camera.size)
    place = box.inside(near)
    is_skin = (source.anatomy.classes[surface.triangle] == SKIN_CLASS).float()
    lid = surface.at_pixels(source.anatomy.lid[:, None])[:, 0] * is_skin
    packed = torch.stack((scene.landing.pixels[:, 1] * is_skin, lid, is_skin), dim=1)
    row, lid, skin = place.of(surface.picture(packed)).split(1)
    steps = (row[:, 2:] - row[:, :-2]) / 2  # source rows per target row: small where the lid unfolds
    steps = F.pad(steps[None], (0, 0, 1, 1), mode="replicate")[0]
    read = smoothstep(*UNFOLDED, steps)
    alpha = blur((closing * lid * (1 - read))[None], LID_SOFTNESS * source.face_width)[0] * skin

    corner = lid.new_tensor([box.left, box.top])[:, None, None]
    pixels = pixel_centres(box.size, lid) + corner
    curves = _lid_curves(scene.head, opening.which, pixels)
    above = curves.upper - curves.height
    reflected = pixels + curves.down * (curves.lower + above + GAP * source.face_width - curves.height)
    colour = sample(canvas.work(box.inside(scene.window)), reflected - corner)
    width = LASH * source.face_width
    lash = (1 - (curves.height - curves.upper).abs() / width).clamp(0, 1)
    lash = lash * smoothstep(0.0, 0.15, curves.across) * (1 - smoothstep(0.85, 1.0, curves.across))
    lash = LASH_STRENGTH * closing * skin * lash[None]
    colour = torch.lerp(colour, source.lashes[opening.which][:, None, None].expand_as(colour), lash)
    return Layer(box.inside(scene.window), colour, torch.maximum(alpha, lash), FILLED)


@dataclass(frozen=True)
class LidCurves:
    """Parabolas through the eye's corners; heights are pixels below the line between the corners."""

    down: Tensor  # (2, 1, 1) unit, across that line
    across: Tensor  # (h, w) 0 outer corner .. 1 inner corner
    height: Tensor  # (h, w) of the pixel itself
    upper: Tensor  # (h, w) of the upper lid's edge there
    lower: Tensor  # (h, w)


def _lid_curves(head: MovedHead, which: int, pixels: Tensor) -> LidCurves:
    outer, inner = head.marks[list(EYE_CORNERS[which]), :2]
    along = inner - outer
    length = along.norm().clamp(min=1e-3)
    down = torch.stack((-along[1], along[0])) / length
    down = down if float(down[1]) >= 0 else -down
    upper, lower = ((head.marks[index, :2] - outer) @ down for index in LID_MIDDLES[which])
    offset = pixels - outer[:, None, None]
    across = (torch.einsum("chw,c->hw", offset, along) / length**2).clamp(0, 1)
    bow = 4 * across * (1 - across)
    height = torch.einsum("chw,c->hw", offset, down)
    return LidCurves(down[:, None, None], across, height, torch.minimum(upper, lower) * bow, lower * bow)


def _closing(source: WarpSource, head: MovedHead, opening: Opening) -> float:
    """0 while the eye is as open as in the photo .. 1 when closed."""
    upper, lower = LID_MIDDLES[opening.which]
    before = float(source.mesh_landmarks[lower, 1] - source.mesh_landmarks[upper, 1])
    after = float(head.marks[lower, 1] - head.marks[upper, 1])
    return ramp(*CLOSING, 1 - after / max(before, 1e-3))
