"""Pictures that show how well a head was fitted: the mesh in the colours of its normals, over the frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from torch import Tensor

from .head.model import HeadModel
from .head.skinning import vertex_normals
from .rendering.rasterizer import rasterize
from .tracking.track import FaceTrack

OPACITY = 0.55  # of the head over the frame
FILLED_OPACITY = 0.25  # where the frame showed no face and the head was filled in
DOT_COLOUR = (1.0, 1.0, 1.0)
LOST_COLOUR = (1.0, -0.7, -0.7)  # border of frames without a face


def overlay_frame(
    picture: Tensor,  # (3, h, w) in [-1, 1], the frame or a smaller copy of it
    head: HeadModel,
    frame: FaceTrack,  # one frame
) -> Tensor:  # (3, h, w)
    """The fitted head over its frame, with its landmarks; fainter and framed in red where no face was found.

    Raises ValueError for a track of several frames.
    """
    if frame.num_frames != 1:
        raise ValueError(
            f"the track has {frame.num_frames} frames; pass the one of this picture, track[i : i + 1]"
        )
    height, width = picture.shape[-2:]
    scale = height / frame.size[0]
    camera = replace(frame.camera, intrinsics=frame.camera.intrinsics * scale, size=(height, width))
    vertices = head.vertices(frame.shape, frame.expression, frame.pose, eyelids=frame.eyelids)  # (1, V, 3)
    seen = rasterize(
        camera.project(vertices), head.faces, (height, width), camera.projection == "perspective"
    )
    normals = vertex_normals(camera.to_camera(vertices), head.faces)
    colour = seen.interpolate(normals, head.faces)[0].movedim(-1, 0)  # (3, h, w) in [-1, 1], as it should be
    found = bool(frame.found[0])
    alpha = seen.covered[0] * (OPACITY if found else FILLED_OPACITY)
    drawn = picture + alpha * (colour - picture)
    if found and frame.landmarks is not None:
        drawn = draw_points(drawn, frame.landmarks[0, :, :2] * scale)
    return drawn if found else draw_border(drawn)


def overlay_clip(
    pictures: Iterable[Tensor],  # frames or smaller copies, each (3, h, w)
    head: HeadModel,
    track: FaceTrack,  # a frame for each picture
    on_step: Callable[..., None],
) -> Iterator[Tensor]:  # F times (3, h, w)
    """The fitted head over every frame of a clip."""
    for i, picture in enumerate(pictures):
        drawn = overlay_frame(picture, head, track[i : i + 1])
        on_step(i + 1, track.num_frames, drawn)
        yield drawn


def draw_points(
    picture: Tensor,  # (3, h, w)
    points: Tensor,  # (K, 2) pixels
) -> Tensor:  # (3, h, w), a copy
    """Each point as one pixel."""
    height, width = picture.shape[-2:]
    column, row = points[points.isfinite().all(-1)].floor().long().unbind(-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    drawn = picture.clone()
    drawn[:, row[inside], column[inside]] = drawn.new_tensor(DOT_COLOUR)[:, None]
    return drawn


def draw_border(picture: Tensor) -> Tensor:
    """A red frame, as a sign that no face was found."""
    drawn = picture.clone()
    width = max(2, min(picture.shape[-2:]) // 64)
    colour = drawn.new_tensor(LOST_COLOUR)[:, None, None]
    for edge in (drawn[:, :width], drawn[:, -width:], drawn[:, :, :width], drawn[:, :, -width:]):
        edge[:] = colour
    return drawn
