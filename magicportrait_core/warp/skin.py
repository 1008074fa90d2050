"""Skin the photo hides or shows at a glancing angle: the other half of the face, or its colour."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .anatomy import SKIN_CLASS
from .field import surface_landing
from .fill import blur, pull_push, resize, sample, smoothstep
from .layers import Canvas, Layer, sample_photo
from .scene import Scene
from .source import COARSE, WarpSource
from .sources import FILLED, MIRRORED

SOFT = 1.5  # pixels of softness of the masks
LEAST = 0.02  # masks below this everywhere are not laid
BRIGHTER = (0.5, 2.0)  # range of the gain that fits mirrored skin to the light of its new side
SMOOTHED = 0.85  # how much of a smear the soft colour replaces
SURE = (0.8, 0.98)  # confidence of skin whose colour may be spread
MOVED = (0.005, 0.02)  # face widths of motion over which the soft colour comes in


def mirrored_layer(scene: Scene) -> Layer | None:
    """Hidden skin taken from the opposite side of the face, where the photo shows that better."""
    source, surface, landing = scene.source, scene.surface, scene.landing
    if not source.options.mirror:
        return None
    wanted = _missing(scene)
    if float(wanted.max()) < LEAST:
        return None
    other = surface_landing(source, surface, scene.head.facing, mirrored=True)
    alpha = wanted * other.confidence
    if float(alpha.max()) < LEAST:
        return None
    corner = landing.pixels.new_tensor([scene.near.left, scene.near.top])
    flow = other.pixels - surface.centres() - corner
    picture = surface.picture(
        torch.cat((alpha[:, None], torch.ones_like(alpha)[:, None], flow, landing.pixels), 1)
    )
    alpha, covered, flow, here = picture[:1], picture[1:2], picture[2:4], picture[4:]
    alpha = blur(alpha[None], SOFT)[0] * covered
    there = surface.picture(other.pixels)
    gain = _brightness(source, here) / _brightness(source, there)
    colour = sample_photo(source, scene.near, flow)
    gain = resize(gain.clamp(*BRIGHTER)[None], source.scale, tuple(colour.shape[-2:]))[0]
    colour = ((colour + 1) * gain - 1).clamp(-1, 1)
    return Layer(
        scene.near.inside(scene.window), colour, alpha, MIRRORED, float(source.options.fill_mirrored)
    )


def soft_layer(scene: Scene, mirrored: Layer | None, canvas: Canvas) -> Layer | None:
    """Cheeks and jaws that were hidden: the colour of the sure skin around them, rather than a long smear."""
    surface, landing = scene.surface, scene.landing
    missing = _missing(scene)
    sure = smoothstep(*SURE, landing.confidence) * _bare(scene)
    if float(missing.max()) < LEAST:
        return None
    picture = surface.picture(torch.stack((missing, sure), dim=1))
    missing, sure = picture[:1], picture[1:]
    if mirrored is not None:
        missing = missing * (1 - mirrored.alpha)
    place = scene.near.inside(scene.window)
    weight = F.avg_pool2d(sure[None], COARSE, ceil_mode=True)
    colour = F.avg_pool2d((canvas.work(place) * sure)[None], COARSE, ceil_mode=True) / weight.clamp(min=1e-4)
    colour = resize(pull_push(colour, weight.clamp(max=1), smoothing=2), COARSE, scene.near.size)[0]
    alpha = blur(SMOOTHED * missing[None], SOFT)[0]
    return Layer(place, colour, alpha, FILLED)


def _missing(scene: Scene) -> Tensor:  # (P,) 0..1
    """Bare skin that moved and that the photo shows badly: nothing is missing at rest."""
    landing = scene.landing
    corner = landing.pixels.new_tensor([scene.near.left, scene.near.top])
    moved = (landing.pixels - scene.surface.centres() - corner).norm(dim=-1) / scene.source.face_width
    return (1 - landing.confidence) * _bare(scene) * smoothstep(*MOVED, moved)


def _bare(scene: Scene) -> Tensor:  # (P,) 0..1
    """Bare skin of the face, by pixel."""
    is_skin = scene.source.anatomy.classes[scene.surface.triangle] == SKIN_CLASS
    return scene.surface.at_pixels(scene.source.anatomy.cheek[:, None])[:, 0] * is_skin


def _brightness(source: WarpSource, pixels: Tensor) -> Tensor:  # (3, h, w), black is 0
    return (sample(source.light, pixels / COARSE) + 1).clamp(min=0.06)
