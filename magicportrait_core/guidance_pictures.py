"""Guidance as people like to see it: full-range depth, normals as colours, the head over a frame."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .guidance import GuidanceMaps, render_guidance
from .head.model import HeadModel
from .head_appearance import HeadAppearance, plain_appearance
from .tracking.track import FaceTrack

OverlayStyle = Literal["shaded", "normals"]
FAR_GREY = 0.12  # of the farthest part of the head; the background is black
EDGE = 0.02  # share of the head's pixels left outside the depth range at either end
OPACITY = {"shaded": 0.8, "normals": 0.65}
DOT_COLOUR = (0.2, 1.0, 0.6)


def depth_range(maps: GuidanceMaps) -> tuple[float, float]:
    """Depth values (0..1) between which nearly all pixels of the head in a clip lie."""
    levels = maps.depth_levels[(maps.flags & 1) > 0]
    if not levels.numel():
        return 0.0, 1.0
    share = torch.bincount(levels.reshape(-1).long(), minlength=256).cumsum(0) / levels.numel()
    low, high = int((share < EDGE).sum()), int((share < 1 - EDGE).sum())
    return low / 255, max(high, low + 1) / 255


def depth_picture(
    maps: GuidanceMaps,
    limits: tuple[float, float] | None = None,  # depth_range of the whole clip, so that it does not flicker
) -> Tensor:  # (F, 1, H, W) 0..1
    """Depth in full contrast: near is bright, the far end of the head dark grey, the background black."""
    low, high = limits or depth_range(maps)
    bright = ((maps.depth - low) / (high - low)).clamp(0, 1)
    return (FAR_GREY + (1 - FAR_GREY) * bright) * maps.mask


def normal_picture(maps: GuidanceMaps) -> Tensor:  # (F, 3, H, W) 0..1
    """Normals as the usual colours: (n + 1) / 2, facing the viewer is light blue."""
    return (maps.signed_normal + 1) / 2 * maps.mask


def overlay_head(
    image: Tensor,  # (3, H, W) in [-1, 1]; of the track's aspect, any size
    head: HeadModel,
    track: FaceTrack,  # one frame
    style: OverlayStyle = "shaded",
    appearance: HeadAppearance | None = None,
    landmarks: bool = False,
    strength: float = 1.0,
) -> Tensor:  # (3, H, W) in [-1, 1]
    """The tracked head blended over its frame.

    `shaded`: a lit head (grey unless `appearance` is given); `normals`: its normals as colours. `landmarks`
    adds the detected points. `strength` 0 gives the frame itself.

    Raises ValueError for a track of several frames or of another aspect.
    """
    if track.num_frames != 1:
        raise ValueError(
            f"the track has {track.num_frames} frames; pass the one of this picture, track[i : i + 1]"
        )
    maps = render_guidance(head, track, appearance or plain_appearance(head), tuple(image.shape[-2:]))
    mask = maps.mask[0].to(image)
    drawn = (normal_picture(maps) if style == "normals" else maps.render)[0].to(image) * 2 - 1
    result = image + (drawn - image) * (mask * (OPACITY[style] * strength))
    if landmarks and track.landmarks is not None:
        scale = image.shape[-2] / track.size[0]
        result = draw_points(result, track.landmarks[0, :, :2].to(image) * scale, strength)
    return result


def draw_points(
    image: Tensor,  # (3, H, W) in [-1, 1]
    points: Tensor,  # (K, 2) pixels; not finite or outside: not drawn
    strength: float = 1.0,
) -> Tensor:  # (3, H, W)
    """Every point as a small soft dot, larger in larger pictures."""
    height, width = image.shape[-2:]
    radius = max(1.0, max(height, width) / 500)
    reach = int(radius) + 1
    points = points[torch.isfinite(points).all(-1)]
    step = torch.arange(-reach, reach + 1, device=image.device)
    row = points[:, 1].floor().long()[:, None, None] + step[:, None]
    column = points[:, 0].floor().long()[:, None, None] + step
    away = torch.hypot(row + 0.5 - points[:, 1, None, None], column + 0.5 - points[:, 0, None, None])
    opacity = (radius + 0.5 - away).clamp(0, 1) * strength
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    dots = image.new_zeros(height * width)
    dots.scatter_reduce_(0, (row * width + column)[inside], opacity[inside].to(dots), "amax")
    colour = image.new_tensor(DOT_COLOUR)[:, None, None] * 2 - 1
    return image + (colour - image) * dots.view(height, width)
