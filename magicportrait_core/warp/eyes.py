"""Eyes: the photo's own eyeball turned by the gaze, under lids that open and close."""

from __future__ import annotations

import torch
from torch import Tensor

from .anatomy import LEFT_UPPER_LID, RIGHT_UPPER_LID
from .field import Anchors, window_around
from .fill import blur, pull_push, smoothstep
from .layers import Layer, sample_photo
from .motion import MovedHead
from .openings import Opening, keep_out
from .scene import Scene
from .source import WarpSource
from .sources import PHOTO
from .surface import VisibleSurface

ROOM = 0.06  # face widths around the opening
UNFOLDED = (1.5, 2.5)  # growth of a lid triangle between which its own texture is given up
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


def lid_anchors(source: WarpSource, head: MovedHead, openings: list[Opening]) -> Anchors | None:
    """The edges of the upper lids: the photo's lash line goes where the moved lid ends."""
    points, flow, weight = [], [], []
    for opening, line in zip(openings[:2], (RIGHT_UPPER_LID, LEFT_UPPER_LID), strict=True):
        if opening.change == 0:
            continue
        after = _densely(head.marks[list(line), :2])
        before = _densely(source.mesh_landmarks[list(line)])
        points.append(after)
        flow.append(before - after)
        weight.append(torch.full_like(after[:, 0], opening.change))
    if not points:
        return None
    return Anchors(torch.cat(points), torch.cat(flow), torch.cat(weight))


def lid_confidence(source: WarpSource, head: MovedHead, surface: VisibleSurface) -> Tensor:  # (P,) 0..1
    """Lid skin that unfolds over the eye is hardly seen in the photo: its flow comes from brow and lash line."""
    faces = source.head.faces
    grown = _areas(head.screen, faces) / _areas(source.screen, faces).clamp(min=1e-3)
    unfolded = smoothstep(*UNFOLDED, grown[surface.triangle])
    return 1 - unfolded * surface.at_pixels(source.anatomy.lid[:, None])[:, 0]


def _densely(line: Tensor, between: int = 8) -> Tensor:
    """Points every eighth of each piece of a line (K, 2)."""
    share = torch.arange(between, device=line.device)[None, :, None] / between
    return torch.lerp(line[:-1, None], line[1:, None], share).reshape(-1, 2)


def _areas(screen: Tensor, faces: Tensor) -> Tensor:  # (T,) pixels, 0 for back faces
    a, b, c = screen[faces, :2].unbind(1)
    twice = (b - a)[:, 1] * (c - a)[:, 0] - (b - a)[:, 0] * (c - a)[:, 1]
    return (twice / 2).clamp(min=0)
