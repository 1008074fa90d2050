"""One warped frame: flow, sampled photo, and the layers that repair what the photo does not show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tracking.track import FaceTrack
from .beside import alpha_beside
from .eyes import eye_layer, lid_layer
from .field import Window, carried_flow, skin_flow
from .fill import resize, smoothstep
from .layers import STILL, Canvas, Layer, photo_size, sample_moving, soften_tears
from .motion import within_limits
from .mouth import mouth_layer
from .scene import Scene, scene_of
from .skin import mirrored_layer, soft_layer
from .source import COARSE, WarpSource
from .sources import OUTSIDE, PHOTO, STRETCHED
from .throat import throat_layer
from .two_layers import composed

BARED = 0.01  # face widths of motion over which what a head uncovers begins to count as hole


@dataclass(frozen=True)
class WarpFrame:
    image: Tensor  # (3, H, W) in [-1, 1]
    hole: Tensor  # (H, W) 0..1, what was invented: for an inpainting step
    source_map: Tensor  # (H, W) int64, index into sources.SOURCES
    flow: Tensor  # (2, H, W) pixels; the photo's pixel is x + flow(x)
    held: float  # degrees of head turn beyond the limits of the options, not followed
    turn: float  # degrees between the sides from which photo and frame show the head


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
    target, held = within_limits(source, target.to(source.image.device))
    scene = scene_of(source, target)
    flow = _flow(scene)
    canvas, matte = _canvas(source, flow, scene.window)
    _label(scene, canvas)
    for layer in _repairs(scene, canvas, flow):
        canvas.lay(layer)
    if source.layers is not None:
        _over_the_plate(scene, canvas, flow, matte)
    centre = source.vertices[source.anatomy.skull].mean(0)
    turn = scene.head.skull.turn(centre, source.camera.projection == "perspective")
    return _finish(source, canvas, flow, scene.window, (held, turn))


def _repairs(scene: Scene, canvas: Canvas, flow: Tensor) -> Iterator[Layer]:
    """Layers in the order they are laid; each sees the canvas with those before it."""
    right, left, lips = scene.openings
    throat = throat_layer(scene, canvas, flow)
    if throat is not None:
        yield throat
    mirrored = mirrored_layer(scene)
    if mirrored is not None:
        yield mirrored
    soft = soft_layer(scene, canvas)
    layers = [soft, lid_layer(scene, right, canvas), lid_layer(scene, left, canvas)]
    layers += [eye_layer(scene, right), eye_layer(scene, left), mouth_layer(scene, lips, canvas)]
    yield from (layer for layer in layers if layer is not None)


def _flow(scene: Scene) -> Tensor:  # (2, h, w) of the window
    source, window = scene.source, scene.window
    centre = source.vertices[source.anatomy.skull].mean(0)
    depth = -float(centre[2])
    rigid, share = carried_flow(source, scene.head.skull, window, depth, centre, scene.head.largest)
    rigid, share = (resize(part[None], COARSE, window.size)[0] for part in (rigid, share))
    flow = share * rigid
    place = scene.near.inside(window)
    around = skin_flow(source, scene.surface, scene.landing, place.of(rigid), place.of(share), scene.near)
    place.of(flow).copy_(around)
    return flow


def _canvas(source: WarpSource, flow: Tensor, window: Window) -> tuple[Canvas, Tensor]:
    """What moves, sampled through the flow, and nothing repaired yet; and its matte (1 or 0, H, W)."""
    moved = sample_moving(source, window, flow)
    image, matte = moved[:3], moved[3:]
    if source.scale == 1:
        image = soften_tears(image, flow)
    canvas = Canvas(
        image=image,
        hole=torch.zeros_like(image[:1]),
        labels=torch.full(image.shape[-2:], OUTSIDE, dtype=torch.int64, device=image.device),
        scale=source.scale,
    )
    return canvas, matte


def _over_the_plate(scene: Scene, canvas: Canvas, flow: Tensor, matte: Tensor) -> None:
    """Lay the moved foreground over the still background."""
    source, window, layers = scene.source, scene.window, scene.source.layers
    size = photo_size(source, window)
    alpha = alpha_beside(scene, canvas, flow, matte)
    rows, columns = (
        slice(begin * source.scale, begin * source.scale + length)
        for begin, length in zip((window.top, window.left), size, strict=True)
    )
    shift = resize((flow.norm(dim=0) * source.scale)[None, None], source.scale, size)[0]
    shift = torch.where(shift > STILL * source.scale, shift, 0)
    photo = source.image[:, rows, columns]
    width = source.face_width * source.scale
    canvas.image.copy_(composed(layers, photo, canvas.image, alpha, shift, width, rows, columns))
    bared = layers.filled[:, rows, columns] * (1 - alpha)
    bared = bared * smoothstep(0, source.scale * BARED * source.face_width, shift)
    torch.maximum(canvas.hole, bared, out=canvas.hole)


def _label(scene: Scene, canvas: Canvas) -> None:
    """Mark what the surface shows as photo or, where the photo shows it badly, as stretched."""
    surface, landing, near, window = scene.surface, scene.landing, scene.near, scene.window
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


def _finish(
    source: WarpSource, canvas: Canvas, flow: Tensor, window: Window, angles: tuple[float, float]
) -> WarpFrame:
    height, width = source.image.shape[-2:]
    top, left = window.top * source.scale, window.left * source.scale
    size = tuple(canvas.image.shape[-2:])
    rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
    image = source.image.clone()
    image[:, rows, columns] = canvas.image
    hole = image.new_zeros(height, width)
    hole[rows, columns] = canvas.hole[0]
    labels = torch.full((height, width), OUTSIDE, dtype=torch.int64, device=image.device)
    labels[rows, columns] = canvas.labels
    whole = image.new_zeros(2, height, width)
    fine = resize(flow[None], source.scale, size)[0]
    moving = (fine.abs().amax(0) > STILL)[None]
    whole[:, rows, columns] = source.scale * fine * moving
    return WarpFrame(image, hole, labels, whole, *angles)
