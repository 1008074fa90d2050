"""Measures of motion by the pack's own tracker: does the output show what was asked for, and steadily?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from magicportrait_core.alignment import head_rotation
from magicportrait_core.head.model import HeadModel
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.rendering.flow import surface_flow, visible_in_source
from magicportrait_core.rendering.rasterizer import rasterize
from magicportrait_core.tracking.landmark_error import OUTER_EYES, expected_landmarks
from magicportrait_core.tracking.rotations import angle_between
from magicportrait_core.tracking.track import FaceTrack

MOTION_METRICS = ("landmarks", "apd", "aed", "identity", "lost")


@dataclass(frozen=True)
class Request:
    """What every method was asked to show."""

    track: FaceTrack  # the portrait's person with the driver's motion, F frames
    landmarks: Tensor  # (F, 478, 2) pixels, where the tracker should see them; NaN: nowhere
    person: Tensor  # (1, S) the portrait's shape

    @classmethod
    def of_truth(cls, track: FaceTrack, truth: FaceTrack) -> Request:
        """The driver drives itself: the tracker should see what it sees in the driver."""
        return cls(track, truth.landmarks[..., :2], truth.shape)

    @classmethod
    def of_aligned(cls, track: FaceTrack, head: HeadModel) -> Request:
        """There is no truth: the landmarks of the aligned head itself."""
        return cls(track, expected_landmarks(head, track), track.shape)


def motion_metrics(
    seen: FaceTrack | None,  # of the output, F frames; None: no face in any of them
    request: Request,
    head: HeadModel,
) -> dict[str, float]:
    """landmarks: mean distance of seen and wanted landmarks, percent of the outer-eye distance. apd: angle
    between seen and wanted head rotation, degrees (average pose distance). aed: mean absolute difference of
    expression coefficients (average expression distance). identity: see shape_distance. lost: frames in which
    no face is seen, percent; the others do not count them."""
    if seen is None:
        return dict.fromkeys(MOTION_METRICS, math.nan) | {"lost": 100.0}
    found = seen.found & request.track.found
    wanted = request.track
    angles = torch.rad2deg(angle_between(head_rotation(seen), head_rotation(wanted)))
    expression = (seen.expression - wanted.expression).abs().mean(1)
    return {
        "landmarks": landmark_error(seen.landmarks[..., :2], request.landmarks),
        "apd": float(angles[found].mean()),
        "aed": float(expression[found].mean()),
        "identity": shape_distance(head, seen.shape, request.person),
        "lost": 100.0 * float((~seen.found).float().mean()),
    }


def landmark_error(
    seen: Tensor,  # (F, K, 2) pixels; NaN: not seen
    wanted: Tensor,  # (F, K, 2) pixels; NaN: without a place
) -> float:
    """Mean distance, percent of the wanted landmarks' mean outer-eye distance in the picture."""
    eyes = (wanted[:, OUTER_EYES[0]] - wanted[:, OUTER_EYES[1]]).norm(dim=-1).nanmean()
    return float(100 * (seen - wanted).norm(dim=-1).nanmean() / eyes)


def shape_distance(
    head: HeadModel,
    first: Tensor,  # (1, S) identity coefficients
    second: Tensor,  # (1, S)
) -> float:
    """Mean distance of the landmarks of two people's heads at rest, of one size and place, percent of the
    outer-eye distance: the identity that shape shows."""
    points = [_rest_landmarks(head, shape) for shape in (first, second)]
    distance = (points[0] - points[1]).norm(dim=-1).nanmean()
    return float(100 * distance / (points[1][OUTER_EYES[0]] - points[1][OUTER_EYES[1]]).norm())


def flow_error(
    frames: Tensor,  # (F, 3, H, W) uint8, F >= 2
    track: FaceTrack,  # of the same picture
    head: HeadModel,
) -> float:
    """Warping error (Lai et al. 2018): mean absolute difference, levels, between each frame and the one
    before it carried along by the head's known motion, where both show the skin. What moves with the head
    counts nothing, what changes on it counts; light and fine motion make the truth's own error."""
    camera = track.camera.resized(tuple(frames.shape[-2:]))
    vertices = head.vertices(track.shape, track.expression, track.pose, eyelids=track.eyelids)
    total, count, before = 0.0, 0.0, None
    for i in range(len(frames)):
        here = camera[i : i + 1]
        space = here.to_camera(vertices[i : i + 1])
        perspective = camera.projection == "perspective"
        fragments = rasterize(here.project_camera(space), head.faces, camera.size, perspective)
        if before is not None:
            flow = surface_flow(fragments, head.faces, space, before.space)
            where = flow.covered[0]
            pixels = before.camera.project_camera(flow.source[0][where][None])[0]
            weight = visible_in_source(pixels, before.depth) * before.inside(pixels)
            change = (frames[i].float()[:, where] - before.sample(pixels)).abs().mean(0)
            total, count = total + float((weight * change).sum()), count + float(weight.sum())
        before = _Before(here, space, fragments.depth[0], frames[i].float())
    return total / count if count else math.nan


def head_masks(
    track: FaceTrack,
    head: HeadModel,
    size: tuple[int, int],  # height, width
) -> Tensor:  # (F, 1, H, W) bool
    """Where the head model stands."""
    camera = track.camera.resized(size)
    masks = torch.zeros(track.num_frames, 1, *size, dtype=torch.bool)
    for i in range(track.num_frames):
        one = track[i : i + 1]
        vertices = head.vertices(one.shape, one.expression, one.pose, eyelids=one.eyelids)
        screen = camera[i : i + 1].project(vertices)
        masks[i] = rasterize(screen, head.faces, size, camera.projection == "perspective").covered
    return masks


@dataclass(frozen=True)
class _Before:
    """The frame before."""

    camera: Camera  # one view
    space: Tensor  # (1, V, 3) camera space
    depth: Tensor  # (H, W)
    picture: Tensor  # (3, H, W) levels

    def _places(self, pixels: Tensor) -> Tensor:  # -1..1
        return pixels[:, :2] * pixels.new_tensor([2 / self.depth.shape[1], 2 / self.depth.shape[0]]) - 1

    def inside(self, pixels: Tensor) -> Tensor:  # (N,) 0 or 1
        return (self._places(pixels).abs() < 1).all(1).float()

    def sample(self, pixels: Tensor) -> Tensor:  # (3, N)
        grid = self._places(pixels)[None, None]
        return F.grid_sample(self.picture[None], grid, padding_mode="border", align_corners=False)[0, :, 0]


def _rest_landmarks(head: HeadModel, shape: Tensor) -> Tensor:  # (K, 3)
    """Centred, of mean distance 1 from their centre; NaN without a place on the head."""
    nothing = head.template.new_zeros(1, head.num_expression)
    points = head.landmark_points(head.rest_vertices(shape, nothing))[0]
    points = points - points.nanmean(0)
    return points / points.norm(dim=-1).nanmean()
