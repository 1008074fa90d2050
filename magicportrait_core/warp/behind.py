"""What lies beside a mirrored silhouette: the scene behind the old profile, not the profile itself.

When a 3/4 face turns to the camera, the pixels beyond its new far cheek come from where the photo shows the
old cheek, nose or lens. They are reflected at a line beside the photo's face: real background is seen there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .fill import blur, pixel_centres, ramp, resize, smoothstep
from .scene import Scene
from .source import COARSE

BESIDE = 0.30  # face widths, Gaussian reach beside mirrored skin
GAIN = 40.0  # of that blur: any strip of mirrored skin counts fully, most of two reaches away
AMOUNT = (0.002, 0.02)  # mirrored skin, squared face widths, over which this comes in
BELOW_CHIN = (-0.25, -0.05)  # of the way from chin to forehead: the neck is left as it is
HAIRLINE = (0.9, 1.5)  # of that way: so is the hair


def uncover_background(
    scene: Scene,
    flow: Tensor,  # (2, h, w) of the window
) -> Tensor:  # (2, h, w)
    if scene.mirror is None or scene.source.profile.turned == 0:
        return flow
    source, surface, window = scene.source, scene.surface, scene.window
    amount = float(scene.mirror.alpha.sum()) / source.face_width**2
    strength = ramp(*AMOUNT, amount) * source.profile.turned
    if strength == 0:
        return flow
    picture = surface.picture(torch.stack((scene.mirror.alpha, torch.ones_like(scene.mirror.alpha)), dim=1))
    place = scene.near.inside(window)
    whole = flow.new_zeros(2, *window.size)
    place.of(whole).copy_(picture)
    small = F.avg_pool2d(whole[None, :1], COARSE, ceil_mode=True)
    spread = (GAIN * blur(small, BESIDE * source.face_width / COARSE)).clamp(max=1)
    spread = resize(spread, COARSE, window.size)[0, 0] * (1 - whole[1])
    chosen = (spread > 1e-3).reshape(-1).nonzero().squeeze(1)
    if not len(chosen):
        return flow
    corner = flow.new_tensor([window.left, window.top])[:, None, None]
    pixels = (pixel_centres(window.size, flow) + corner + flow).reshape(2, -1)[:, chosen].T
    height, _ = source.profile.place(pixels)
    beside = smoothstep(*BELOW_CHIN, height) * (1 - smoothstep(*HAIRLINE, height))
    weight = strength * spread.reshape(-1)[chosen] * beside
    moved = source.profile.reflect(pixels, source.face_width, weight) - pixels
    shift = torch.zeros_like(flow).reshape(2, -1)
    shift[:, chosen] = moved.T
    return flow + shift.reshape(flow.shape)
