"""The throat below a chin that rises with a mouth that shuts: the photo shows the chin there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .anatomy import CHIN, FACE_OVAL
from .field import window_around
from .fill import pixel_centres, pull_push, ramp, resize, sample, smoothstep
from .layers import Canvas, Layer
from .polygon import signed_distance
from .scene import Scene
from .source import COARSE, WarpSource
from .sources import FILLED

NOSE = 2  # landmark under the nose, which no jaw moves
RISEN = (0.01, 0.045)  # of the length from nose to chin, by which it shrinks before that is done
BELOW = (0.55, 0.95)  # of the way from nose to chin, from where it is done
EDGE = 0.11  # face widths beside the landmarks of a face that still show its edge and the crease below it
SOFT = 0.03  # face widths of softness of the mask
ROOM = 0.8  # face widths around the chin


def throat_layer(scene: Scene, canvas: Canvas, flow: Tensor) -> Layer | None:
    """Pixels beside the moved face that show the photo's chin or its edge, in the colours around them."""
    source, marks = scene.source, scene.head.marks[:, :2]
    width = source.face_width
    nose, chin = marks[NOSE], marks[CHIN]
    strength = ramp(*RISEN, 1 - _length(source, scene.head.vertices) / _length(source, source.vertices))
    if strength == 0:
        return None
    box = window_around(chin[None], ROOM * width, source.camera.size).cut_to(scene.window)
    if 0 in box.size:
        return None
    place = box.inside(scene.window)
    corner = marks.new_tensor([box.left, box.top])[:, None, None]
    cells = pixel_centres((-(-box.height // COARSE), -(-box.width // COARSE)), flow) * COARSE + corner
    outline = source.landmarks + marks - source.mesh_landmarks
    beside = signed_distance(outline[list(FACE_OVAL)], cells)
    down = (chin - nose) / (chin - nose).square().sum()
    below = torch.einsum("chw,c->hw", cells - nose[:, None, None], down)
    beside, below = resize(torch.stack((beside, below))[None], COARSE, box.size)[0]
    shown = sample(source.outline[None], pixel_centres(box.size, flow) + corner + place.of(flow))[0]
    chins = smoothstep(0, SOFT * width, beside.clamp(max=EDGE * width) - shown)
    alpha = (strength * smoothstep(*BELOW, below) * chins * smoothstep(0, SOFT * width, beside))[None]
    if float(alpha.max()) == 0:
        return None
    clear = ((beside > EDGE * width) & (shown > EDGE * width)).float()[None]
    weight = F.avg_pool2d(clear[None], COARSE, ceil_mode=True)
    colour = F.avg_pool2d((canvas.work(place) * clear)[None], COARSE, ceil_mode=True) / weight.clamp(min=1e-4)
    colour = resize(pull_push(colour, weight.clamp(max=1), smoothing=2), COARSE, box.size)[0]
    return Layer(place, colour, alpha, FILLED)


def _length(source: WarpSource, vertices: Tensor) -> float:
    """From the nose to the chin in space, so that no turn of the head changes it."""
    nose, chin = source.head.landmark_points(vertices[None])[0, [NOSE, CHIN]]
    return float((chin - nose).norm())
