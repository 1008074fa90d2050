"""What lies beside a mirrored silhouette: the scene behind the old profile, not the profile itself.

When a 3/4 face turns to the camera, the pixels beyond its new far cheek come from where the photo shows the
old cheek, nose or lens. They are reflected at a line beside the photo's face: real background is seen there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .fill import blur, pixel_centres, resize, smoothstep
from .scene import Scene
from .source import COARSE

BESIDE = 0.30  # face widths, Gaussian reach beside mirrored skin
GAIN = 40.0  # of that blur: any strip of mirrored skin counts fully, most of two reaches away
PROTRUDING = 0.34  # face widths from the face to that line: room for lenses
BELOW_CHIN = (-0.25, -0.05)  # of the way from chin to forehead: the neck is left as it is
HAIRLINE = (0.95, 1.15)  # of that way: so is the hair


def uncover_background(
    scene: Scene,
    flow: Tensor,  # (2, h, w) of the window
) -> Tensor:  # (2, h, w)
    if scene.mirror is None:
        return flow
    source, surface, window = scene.source, scene.surface, scene.window
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
    weight = spread.reshape(-1)[chosen] * beside
    moved = source.profile.reflect(pixels, PROTRUDING * source.face_width, weight) - pixels
    shift = torch.zeros_like(flow).reshape(2, -1)
    shift[:, chosen] = moved.T
    return flow + shift.reshape(flow.shape)
