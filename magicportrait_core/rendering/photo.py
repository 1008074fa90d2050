"""A photo as a texture: where a surface point is seen in it, how well, and in which colour."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, max_pool2d

from .camera import Camera
from .rasterizer import rasterize

FACING = (0.2, 0.5)  # cosine to the viewer at which a point starts to count and counts fully
FACING_SKULL = (0.05, 0.25)  # the same where hair or a hat stands out further: no background can get in
BEHIND = 0.006  # metres a point may lie behind what is drawn there and still count as seen
MARGIN = 3  # pixels around the head's box
SOFTNESS = 90  # parts of the head's box: the width of margins that make up for an inexact fit


@dataclass(frozen=True)
class Photo:
    """The part of a photo that holds the head, and the depth of the fitted surface there."""

    picture: Tensor  # (3, h, w) 0..1
    triangle: Tensor  # (h, w) of the fitted surface, -1 outside the head
    depth: Tensor  # (h, w) of the nearest surface within `reach` of each pixel, infinite away from the head
    reach: int  # pixels
    camera: Camera  # one frame, of this part
    trusted: Tensor  # (h, w) 0..1, 0 where the picture shows something else than the head


def head_in_photo(
    picture: Tensor,  # (3, H, W) 0..1
    camera: Camera,  # one frame, of the whole picture
    vertices: Tensor,  # (1, V, 3) head space
    faces: Tensor,  # (T, 3)
    longest: int,  # pixels; larger heads are scaled down, which also smooths as the texture needs
) -> Photo:
    """Cuts the head out of the photo."""
    height, width = picture.shape[-2:]
    points = camera.project(vertices)[0, :, :2]
    left, top = (points.amin(0).floor() - MARGIN).long().tolist()
    right, bottom = (points.amax(0).ceil() + MARGIN).long().tolist()
    left, right = max(0, left), min(width, right)
    top, bottom = max(0, top), min(height, bottom)
    if left >= right or top >= bottom:
        raise ValueError(
            "the head lies outside the picture; give the picture that the portrait track was made from"
        )
    part, camera = picture[:, top:bottom, left:right], camera.cropped(left, top, (bottom - top, right - left))
    scale = longest / max(part.shape[-2:])
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in part.shape[-2:])
        part = interpolate(part[None], size=size, mode="bilinear", antialias=True, align_corners=False)[0]
        camera = camera.resized(size)
    size = part.shape[-2:]
    seen = rasterize(camera.project(vertices), faces, tuple(size), camera.projection == "perspective")
    depth = torch.where(seen.covered, seen.depth, torch.inf)
    reach = max(1, round(max(size) / SOFTNESS))  # a fit is never exact: stay clear of what lies in front
    depth = -max_pool2d(-depth, 2 * reach + 1, stride=1, padding=reach)[0]
    return Photo(part, seen.triangle[0], depth, reach, camera, torch.ones_like(depth))


def without(
    photo: Photo,
    other: Tensor,  # (h, w) bool
) -> Photo:
    """The photo with `other`, and a soft margin around it, not trusted."""
    reach = max(1, round(max(other.shape) / SOFTNESS))
    wider = max_pool2d(other[None].float(), 2 * reach + 1, stride=1, padding=reach)
    soft = avg_pool2d(wider, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)[0]
    return replace(photo, trusted=photo.trusted * (1 - soft))


def look_up(
    photo: Photo,
    points: Tensor,  # (N, 3) head space
    normals: Tensor,  # (N, 3) camera axes, unit length
    skull: Tensor | None = None,  # (N,) bool
) -> tuple[Tensor, Tensor]:  # (N, 3) colours 0..1, (N,) 0 unseen .. 1 seen well
    """The photo's colours at points of the surface."""
    camera = photo.camera
    in_camera = camera.to_camera(points[None])
    column, row, depth = camera.project_camera(in_camera)[0].unbind(-1)
    height, width = photo.depth.shape
    grid = torch.stack((column / width * 2 - 1, row / height * 2 - 1), dim=-1)[None, None]
    colours = grid_sample(photo.picture[None], grid, align_corners=False, padding_mode="border")[0, :, 0].T
    towards = torch.nn.functional.normalize(-in_camera[0], dim=-1)
    if camera.projection == "orthographic":
        towards = torch.tensor([0.0, 0.0, 1.0], device=points.device).expand_as(points)
    cosine = (normals * towards).sum(-1)
    facing = smooth_step((cosine - FACING[0]) / (FACING[1] - FACING[0]))
    if skull is not None:
        steep = smooth_step((cosine - FACING_SKULL[0]) / (FACING_SKULL[1] - FACING_SKULL[0]))
        facing = torch.where(skull, steep, facing)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    at = row.long().clamp(0, height - 1) * width + column.long().clamp(0, width - 1)
    front = photo.depth.reshape(-1)[at]
    # A steep surface comes nearer within the reach by itself.
    pixel = 1 / camera.intrinsics[0, 0] * (depth if camera.projection == "perspective" else 1)
    slope = (1 / cosine.clamp(min=0.05) ** 2 - 1).sqrt()
    seen = inside & (depth <= front + BEHIND + 1.5 * photo.reach * pixel * slope)
    return colours, facing * seen * photo.trusted.reshape(-1)[at]


def smooth_step(x: Tensor) -> Tensor:
    """0 below 0, 1 above 1, smooth between."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)
