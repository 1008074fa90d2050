"""Skin the photo hides or shows at a glancing angle: the other half of the face, or its colour."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .fill import blur, pull_push, resize, sample, smoothstep
from .layers import Canvas, Layer, sample_photo
from .mirror import LEAST, bare_skin, missing_skin
from .scene import Scene
from .source import COARSE, WarpSource
from .sources import FILLED, MIRRORED

SOFT = 1.5  # pixels of softness of the masks
BRIGHTER = (0.5, 2.0)  # range of the gain that fits mirrored skin to the light of its new side
SMOOTHED = 0.85  # how much of a smear the soft colour replaces
SURE = (0.8, 0.98)  # confidence of skin whose colour may be spread


def mirrored_layer(scene: Scene) -> Layer | None:
    """Hidden skin taken from the opposite side of the face, where the photo shows that better."""
    if scene.mirror is None:
        return None
    source, surface, landing = scene.source, scene.surface, scene.landing
    other, alpha = scene.mirror.landing, scene.mirror.alpha
    corner = landing.pixels.new_tensor([scene.near.left, scene.near.top])
    flow = other.pixels - surface.centres() - corner
    packed = torch.stack((alpha, torch.ones_like(alpha)), dim=1)
    picture = surface.picture(torch.cat((packed, flow, landing.pixels, other.pixels), dim=1))
    alpha = blur(picture[None, :1], SOFT)[0] * picture[1:2]
    place, part = scene.near.trimmed(alpha)
    alpha = part.of(alpha)
    flow, here, there = part.of(picture[2:]).split(2)
    gain = (_brightness(source, here) / _brightness(source, there)).clamp(*BRIGHTER)
    colour = sample_photo(source, place, flow)
    gain = resize(gain[None], source.scale, tuple(colour.shape[-2:]))[0]
    colour = ((colour + 1) * gain - 1).clamp(-1, 1)
    hole = float(source.options.fill_mirrored)
    return Layer(place.inside(scene.window), colour, alpha, MIRRORED, hole)


def soft_layer(scene: Scene, canvas: Canvas) -> Layer | None:
    """Cheeks and jaws that were hidden: the colour of the sure skin around them, rather than a long smear."""
    surface, landing = scene.surface, scene.landing
    corner = landing.pixels.new_tensor([scene.near.left, scene.near.top])
    missing = missing_skin(scene.source, surface, landing, corner)
    sure = smoothstep(*SURE, landing.confidence) * bare_skin(scene.source, surface)
    if scene.mirror is not None:
        missing = missing * (1 - scene.mirror.alpha)
    if not len(missing) or float(missing.max()) < LEAST:
        return None
    picture = surface.picture(torch.stack((missing, sure), dim=1))
    missing, sure = picture[:1], picture[1:]
    place = scene.near.inside(scene.window)
    weight = F.avg_pool2d(sure[None], COARSE, ceil_mode=True)
    colour = F.avg_pool2d((canvas.work(place) * sure)[None], COARSE, ceil_mode=True) / weight.clamp(min=1e-4)
    colour = resize(pull_push(colour, weight.clamp(max=1), smoothing=2), COARSE, scene.near.size)[0]
    alpha = blur(SMOOTHED * missing[None], SOFT)[0]
    place, part = scene.near.trimmed(alpha)
    return Layer(place.inside(scene.window), part.of(colour), part.of(alpha), FILLED)


def _brightness(source: WarpSource, pixels: Tensor) -> Tensor:  # (3, h, w), black is 0
    return (sample(source.light, pixels / COARSE) + 1).clamp(min=0.06)
