"""What lies beside a mirrored silhouette: the scene behind the old profile, not the profile itself.

When a 3/4 face turns to the camera, the pixels beyond its new far cheek come from where the photo shows the
old cheek, nose or lens. They are reflected at a line beside the photo's face: real background is seen there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .fill import blur, pixel_centres, ramp, resize, smoothstep
from .layers import Layer, sample_photo
from .mirror import LEAST
from .scene import Scene
from .source import COARSE
from .sources import FILLED

BESIDE = 0.30  # face widths, Gaussian reach beside mirrored skin
GAIN = 40.0  # of that blur: any strip of mirrored skin counts fully, most of two reaches away
AMOUNT = (0.001, 0.04)  # mirrored skin, squared face widths, over which this comes in
BELOW_CHIN = (-0.25, -0.05)  # of the way from chin to forehead: the neck is left as it is
HAIRLINE = (0.9, 1.5)  # of that way: so is the hair


def background_layer(
    scene: Scene,
    flow: Tensor,  # (2, h, w) of the window
) -> Layer | None:
    """The reflected background, faded in beside mirrored skin."""
    if scene.mirror is None or scene.source.profile.turned == 0:
        return None
    source, window = scene.source, scene.window
    amount = float(scene.mirror.alpha.sum()) / source.face_width**2
    strength = ramp(*AMOUNT, amount) * source.profile.turned
    if strength == 0:
        return None
    spread = strength * _beside(scene)
    place, part = window.trimmed((spread > LEAST).float())
    flow, spread = part.of(flow), part.of(spread)
    corner = flow.new_tensor([place.left, place.top])[:, None, None]
    centres = pixel_centres(place.size, flow) + corner
    pixels = (centres + flow).reshape(2, -1).T
    height, _ = source.profile.place(pixels)
    below_hair = smoothstep(*BELOW_CHIN, height) * (1 - smoothstep(*HAIRLINE, height))
    pixels, far_half = source.profile.reflect(pixels, source.face_width)
    alpha = spread * (below_hair * far_half).reshape(1, *place.size)
    colour = sample_photo(source, place, pixels.T.reshape(2, *place.size) - centres)
    return Layer(place.inside(window), colour, alpha, FILLED)


def _beside(scene: Scene) -> Tensor:  # (1, h, w) of the window, 0..1
    """Near mirrored skin, but not on the head."""
    surface, window = scene.surface, scene.window
    picture = surface.picture(torch.stack((scene.mirror.alpha, torch.ones_like(scene.mirror.alpha)), dim=1))
    whole = picture.new_zeros(2, *window.size)
    scene.near.inside(window).of(whole).copy_(picture)
    small = F.avg_pool2d(whole[None, :1], COARSE, ceil_mode=True)
    spread = (GAIN * blur(small, BESIDE * scene.source.face_width / COARSE)).clamp(max=1)
    return resize(spread, COARSE, window.size)[0] * (1 - blur(whole[None, 1:], 0.6)[0])
