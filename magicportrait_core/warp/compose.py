"""One warped frame: flow, sampled photo, and the layers that repair what the photo does not show."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..head.skinning import vertex_normals
from ..rendering.flow import facing
from ..rendering.rasterizer import rasterize
from ..tracking.track import FaceTrack
from .field import (
    REACH,
    SLOPE,
    Landing,
    Window,
    carried_flow,
    skin_flow,
    surface_landing,
    window_around,
)
from .fill import pixel_centres, resize, sample, smoothstep
from .layers import Canvas
from .motion import SkullMotion, skull_motion, target_vertices, within_limits
from .source import COARSE, WarpSource
from .sources import OUTSIDE, PHOTO, STRETCHED
from .surface import VisibleSurface

STILL = 2e-3  # work pixels of flow that count as none: the photo itself is shown
PLANE = 0.25  # of the head's depth behind the eyes lies the plane whose silhouette turns like the head's


@dataclass(frozen=True)
class WarpFrame:
    image: Tensor  # (3, H, W) in [-1, 1]
    hole: Tensor  # (H, W) 0..1, what was invented: for an inpainting step
    source_map: Tensor  # (H, W) int64, index into sources.SOURCES
    flow: Tensor  # (2, H, W) pixels; the photo's pixel is x + flow(x)
    held: float  # degrees of head turn beyond the limits of the options, not followed


@dataclass(frozen=True)
class MovedHead:
    """The target mesh of one frame and how the skull moved."""

    vertices: Tensor  # (V, 3) camera space
    screen: Tensor  # (V, 3) work pixels and depth
    normals: Tensor  # (V, 3)
    facing: Tensor  # (V,)
    marks: Tensor  # (478, 2) work pixels
    motion: SkullMotion
    target: FaceTrack


@torch.no_grad()
def warp_frame(
    source: WarpSource,
    target: FaceTrack,  # 1 frame, aligned to the portrait
) -> WarpFrame:
    """The portrait with the target's pose and expression. Where nothing moves it is the photo, exactly."""
    if target.num_frames != 1:
        raise ValueError(
            f"the target has {target.num_frames} frames; expected 1 (use warp_clip for a whole track)"
        )
    target, held = within_limits(source, target)
    head = _move(source, target)
    largest = float((head.screen - source.screen)[source.anatomy.skull, :2].norm(dim=-1).quantile(0.9))
    size = source.camera.size
    margin = (source.options.hair * source.face_width) + max(
        source.options.falloff * source.face_width, SLOPE * largest
    )
    points = torch.cat((head.screen[:, :2], source.screen[:, :2]))
    window = window_around(points, margin, size)
    near = window_around(head.screen[:, :2], REACH * source.face_width, size)
    surface = _rasterize(source, head, near)
    landing = surface_landing(source, surface, head.facing)
    flow, confidence = _flow(source, head, surface, landing, window, near, largest)
    canvas = _canvas(source, flow, window)
    _label(source, canvas, surface, landing, near, window)
    del confidence
    return _finish(source, canvas, flow, window, held)


def _move(source: WarpSource, target: FaceTrack) -> MovedHead:
    vertices = target_vertices(source, target)
    perspective = source.camera.projection == "perspective"
    normals = vertex_normals(vertices[None], source.head.faces)
    screen = source.camera.project_camera(vertices[None])
    skull = source.anatomy.skull
    return MovedHead(
        vertices=vertices,
        screen=screen[0],
        normals=normals[0],
        facing=facing(vertices[None], normals, perspective)[0],
        marks=source.head.landmark_points(screen)[0, :, :2],
        motion=skull_motion(source.vertices[skull], vertices[skull]),
        target=target,
    )


def _rasterize(source: WarpSource, head: MovedHead, near: Window) -> VisibleSurface:
    shift = head.screen.new_tensor([near.left, near.top, 0.0])
    perspective = source.camera.projection == "perspective"
    fragments = rasterize((head.screen - shift)[None], source.head.faces, near.size, perspective)
    return VisibleSurface.of(fragments, source.head.faces)


def _flow(
    source: WarpSource,
    head: MovedHead,
    surface: VisibleSurface,
    landing: Landing,
    window: Window,
    near: Window,
    largest: float,
) -> tuple[Tensor, Tensor]:  # (2, h, w) of the window, (1, h, w) of near
    skull = source.vertices[source.anatomy.skull]
    centre = skull.mean(0)
    depth = -float(centre[2])
    rigid, share = carried_flow(source, head.motion, window, depth, centre, largest)
    rigid, share = (resize(part[None], COARSE, window.size)[0] for part in (rigid, share))
    flow = share * rigid
    place = near.inside(window)
    around, confidence = skin_flow(source, surface, landing, place.of(rigid), place.of(share), near)
    place.of(flow).copy_(around)
    return flow, confidence


def _canvas(source: WarpSource, flow: Tensor, window: Window) -> Canvas:
    """The photo sampled through the flow; pixels that do not move are copied."""
    scale = source.scale
    height = min(window.height * scale, source.image.shape[-2] - window.top * scale)
    width = min(window.width * scale, source.image.shape[-1] - window.left * scale)
    fine = resize(flow[None], scale, (height, width))[0]
    corner = fine.new_tensor([window.left, window.top])[:, None, None]
    pixels = pixel_centres((height, width), fine) + scale * (fine + corner)
    photo = source.image[
        :, window.top * scale : window.top * scale + height, window.left * scale : window.left * scale + width
    ]
    moving = (fine.abs().amax(0) > STILL)[None]
    image = torch.where(moving, sample(source.image, pixels, "bicubic").clamp(-1, 1), photo)
    return Canvas(
        image=image,
        hole=torch.zeros_like(image[:1]),
        labels=torch.full((height, width), OUTSIDE, dtype=torch.int64, device=image.device),
        scale=scale,
    )


def _label(
    source: WarpSource,
    canvas: Canvas,
    surface: VisibleSurface,
    landing: Landing,
    near: Window,
    window: Window,
) -> None:
    """Mark what the surface shows as photo or, where the photo shows it badly, as stretched."""
    corner = landing.pixels.new_tensor([near.left, near.top])
    moved = (landing.pixels - surface.centres() - corner).norm(dim=-1)
    rows, columns = canvas.region(near.inside(window))
    size = (rows.stop - rows.start, columns.stop - columns.start)
    stretched = surface.picture((1 - landing.confidence) * smoothstep(0.25, 1.5, moved))
    covered = surface.picture(torch.ones_like(landing.confidence))
    stretched, covered = (resize(part[None], canvas.scale, size)[0] for part in (stretched, covered))
    canvas.hole[:, rows, columns] = stretched
    labels = torch.where(stretched[0] > 0.5, STRETCHED, PHOTO)
    canvas.labels[rows, columns] = torch.where(covered[0] > 0.5, labels, OUTSIDE)


def _finish(source: WarpSource, canvas: Canvas, flow: Tensor, window: Window, held: float) -> WarpFrame:
    height, width = source.image.shape[-2:]
    rows, columns = canvas.region(window)
    image = source.image.clone()
    image[:, rows, columns] = canvas.image
    hole = image.new_zeros(height, width)
    hole[rows, columns] = canvas.hole[0]
    labels = torch.full((height, width), OUTSIDE, dtype=torch.int64, device=image.device)
    labels[rows, columns] = canvas.labels
    whole = image.new_zeros(2, height, width)
    size = canvas.image.shape[-2:]
    whole[:, rows, columns] = source.scale * resize(flow[None], source.scale, size)[0]
    return WarpFrame(image, hole, labels, whole, held)
