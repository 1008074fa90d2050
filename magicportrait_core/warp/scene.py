"""One frame before its picture: the moved mesh, what is seen of it, where that comes from in the portrait."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..rendering.rasterizer import rasterize
from ..tracking.track import FaceTrack
from .anatomy import LID_MIDDLES, SKIN_CLASS
from .field import REACH, SLOPE, Landing, Window, surface_landing, window_around
from .mirror import Mirror, mirror_of
from .motion import MovedHead, move_head
from .openings import Opening, keep_skin_out, openings_of
from .source import WarpSource
from .surface import VisibleSurface


@dataclass(frozen=True)
class Scene:
    source: WarpSource
    head: MovedHead
    surface: VisibleSurface  # in `near`
    landing: Landing
    mirror: Mirror | None
    openings: list[Opening]  # right eye, left eye, lips
    window: Window  # all that may move
    near: Window  # the mesh and a rim


def scene_of(
    source: WarpSource,
    target: FaceTrack,  # 1 frame
) -> Scene:
    head = move_head(source, target)
    options, width, size = source.options, source.face_width, source.camera.size
    margin = options.hair * width + max(options.falloff * width, SLOPE * head.largest)
    window = window_around(torch.cat((head.screen[:, :2], source.screen[:, :2])), margin, size)
    near = window_around(head.screen[:, :2], REACH * width, size)
    corner = head.screen.new_tensor([near.left, near.top, 0.0])
    perspective = source.camera.projection == "perspective"
    fragments = rasterize((head.screen - corner)[None], source.head.faces, near.size, perspective)
    surface = VisibleSurface.of(fragments, source.head.faces)
    landing = surface_landing(source, surface, head.facing)
    openings = openings_of(source, head.marks, _gaze_shift(source, head, surface, landing, near))
    is_skin = source.anatomy.classes[surface.triangle] == SKIN_CLASS
    landing = replace(landing, pixels=keep_skin_out(source, landing.pixels, is_skin, openings))
    mirror = mirror_of(source, head, surface, landing, corner[:2])
    return Scene(source, head, surface, landing, mirror, openings, window, near)


def _gaze_shift(
    source: WarpSource, head: MovedHead, surface: VisibleSurface, landing: Landing, near: Window
) -> tuple[float, float]:
    """Work pixels by which each eyeball's picture moves against its lids."""
    out = []
    side = source.anatomy.eye_side[surface.triangle]
    for which, middles in enumerate(LID_MIDDLES):
        chosen = (side == which).nonzero().squeeze(1)
        if len(chosen) < 4:
            out.append(0.0)
            continue
        corner = landing.pixels.new_tensor([near.left, near.top])
        shift = (landing.pixels[chosen] - surface.select(chosen).centres() - corner).mean(0)
        lids = (source.mesh_landmarks[list(middles)] - head.marks[list(middles), :2]).mean(0)
        out.append(float((shift - lids).norm()))
    return out[0], out[1]
