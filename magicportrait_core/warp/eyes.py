"""Eyes: the photo's own eyeball turned by the gaze, under lids that open and close."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .anatomy import LID_MIDDLES, SKIN_CLASS, UPPER_LIDS
from .field import window_around
from .fill import blur, pixel_centres, pull_push, ramp, smoothstep
from .layers import Layer, sample_photo
from .motion import MovedHead
from .openings import Opening, keep_out
from .polygon import distance_to_line
from .scene import Scene
from .source import WarpSource
from .sources import FILLED, PHOTO

ROOM = 0.06  # face widths around the opening
CLOSING = (0.25, 0.7)  # share of the opening that went away
UNFOLDED = (0.35, 0.65)  # source rows per target row below and above which lid skin is unreadable, readable
LID_SOFTNESS = 0.012  # face widths
LASH = 0.012  # face widths, half the thickness of the lash line
EDGE = 0.6  # pixels of softness where the lid meets the eye


def eye_layer(scene: Scene, opening: Opening) -> Layer | None:
    """One eye, sampled from the photo through the eyeball's flow; None when it is not seen."""
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
    return Layer(box.inside(scene.window), sample_photo(source, box, flow), alpha, PHOTO, 0.0)


def lid_layer(scene: Scene, opening: Opening) -> Layer | None:
    """Lid skin that unfolds over the eye: plain skin with a lash line, instead of stretched lashes.

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
    side = opening.which
    alpha = blur((closing * lid * (1 - read))[None], LID_SOFTNESS * source.face_width)[0] * skin
    pixels = pixel_centres(box.size, lid) + lid.new_tensor([box.left, box.top])[:, None, None]
    colour = source.under_eyes[side][:, None, None].expand(3, *box.size)
    line = scene.head.marks[list(UPPER_LIDS[side]), :2]
    lash = (
        (1 - distance_to_line(line, pixels) / (LASH * source.face_width)).clamp(0, 1)[None] * closing * skin
    )
    colour = colour + lash * (source.lashes[side][:, None, None] - colour)
    return Layer(box.inside(scene.window), colour, torch.maximum(alpha, 0.8 * lash), FILLED)


def _closing(source: WarpSource, head: MovedHead, opening: Opening) -> float:
    """0 while the eye is as open as in the photo .. 1 when closed."""
    upper, lower = LID_MIDDLES[opening.which]
    before = float(source.mesh_landmarks[lower, 1] - source.mesh_landmarks[upper, 1])
    after = float(head.marks[lower, 1] - head.marks[upper, 1])
    return ramp(*CLOSING, 1 - after / max(before, 1e-3))
