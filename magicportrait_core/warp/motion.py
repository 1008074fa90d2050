"""The target head: posed with the portrait's personal offsets, within the turn that the photo can stand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..head.skinning import axis_angle_to_matrix, matrix_to_axis_angle, vertex_normals
from ..rendering.flow import facing
from ..tracking.track import FaceTrack
from .source import WarpSource

TOWARDS_CAMERA = 1.6  # a 3/4 face may turn this much further towards the camera than away from it
KNEE = 0.8  # share of the limit from where motion is compressed, so that nothing stops with a jerk


@dataclass(frozen=True)
class SkullMotion:
    """Rigid motion of the skull in camera space: target = rotation @ source + shift; and how far the target's
    camera has its principal point from the source's."""

    rotation: Tensor  # (3, 3)
    shift: Tensor  # (3,)
    aside: Tensor  # (2,) work pixels

    def to_source(
        self,
        points: Tensor,  # (..., 3) target camera space
    ) -> Tensor:  # (..., 3) source camera space
        return (points - self.shift) @ self.rotation

    def to_target(self, points: Tensor) -> Tensor:
        return points @ self.rotation.T + self.shift

    def turn(
        self,
        centre: Tensor,  # (3,) of the skull in the source, camera space
        perspective: bool,
    ) -> float:
        """Degrees between the directions from which the viewer looks at the head before and after. Turning
        by itself and moving aside both count, leaning to a shoulder does not: it shows no other skin."""
        ahead = centre.new_tensor([0.0, 0.0, 1.0])
        before, after = (-centre, -self.to_target(centre)) if perspective else (ahead, ahead)
        return _angle(before.cpu(), (after @ self.rotation).cpu())


def skull_motion(
    source: Tensor,  # (N, 3) vertices of the skull
    target: Tensor,  # (N, 3)
) -> SkullMotion:
    """Least-squares rigid motion (Kabsch); exactly the identity when nothing moves."""
    if torch.equal(source, target):
        return SkullMotion(torch.eye(3, device=source.device), source.new_zeros(3), source.new_zeros(2))
    a, b = source.cpu().double(), target.cpu().double()  # no float64 on MPS
    centre_a, centre_b = a.mean(0), b.mean(0)
    u, _, vt = torch.linalg.svd((b - centre_b).T @ (a - centre_a))
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.det(u @ vt).sign()
    rotation = (u * sign) @ vt
    shift = centre_b - rotation @ centre_a
    return SkullMotion(rotation.to(source), shift.to(source), source.new_zeros(2))


def within_limits(source: WarpSource, target: FaceTrack) -> tuple[FaceTrack, float]:
    """The target with its turn held to the limits of the options, and the degrees that were not followed."""
    here, there = _look(source.track), _look(target)
    turn = _angle(here, there)
    if turn < 1e-4:
        return target, 0.0
    options = source.options
    home = here.new_tensor([0.0, 0.0, 1.0])
    approach = (_angle(here, home) - _angle(there, home)) / turn  # 1: straight towards the camera
    bonus = 1 + (TOWARDS_CAMERA - 1) * min(max(approach, 0.0), 1.0)
    allowed = _knee(turn, options.max_turn * bonus)
    yaw_here, yaw_there = _yaw(here), _yaw(there)
    if abs(yaw_there) > abs(yaw_here):  # towards profile
        limit = max(options.max_yaw, abs(yaw_here))
        room, wanted = limit - abs(yaw_here), abs(yaw_there) - abs(yaw_here)
        allowed = min(allowed, turn * _knee(wanted, max(room, 1e-3)) / wanted)
    if allowed >= turn:
        return target, 0.0
    pose = target.pose.clone()
    for joint in (0, 1):
        pose[:, joint] = _between(source.track.pose[:, joint], target.pose[:, joint], allowed / turn)
    return replace(target, pose=pose), turn - allowed


@dataclass(frozen=True)
class MovedHead:
    """The target mesh of one frame, and how its skull moved."""

    vertices: Tensor  # (V, 3) camera space
    screen: Tensor  # (V, 3) work pixels and depth
    normals: Tensor  # (V, 3) unit, camera space
    facing: Tensor  # (V,)
    marks: Tensor  # (478, 3) landmarks of the mesh, work pixels and depth
    skull: SkullMotion
    largest: float  # work pixels, shift of the skull (90th percentile)


def move_head(
    source: WarpSource,
    target: FaceTrack,  # 1 frame
) -> MovedHead:
    """Pose the portrait's head as the target asks."""
    vertices = target_vertices(source, target)
    camera, skull = source.camera, source.anatomy.skull
    normals = vertex_normals(vertices[None], source.head.faces)
    aside = target.camera.intrinsics[0, 1:].to(vertices) / source.scale - camera.intrinsics[0, 1:]
    screen = camera.project_camera(vertices[None])
    screen = torch.cat((screen[..., :2] + aside, screen[..., 2:]), -1)
    shift = (screen[0] - source.screen)[skull, :2].norm(dim=-1)
    return MovedHead(
        vertices=vertices,
        screen=screen[0],
        normals=normals[0],
        facing=facing(vertices[None], normals, camera.projection == "perspective")[0],
        marks=source.head.landmark_points(screen)[0],
        skull=replace(skull_motion(source.vertices[skull], vertices[skull]), aside=aside),
        largest=float(shift.quantile(0.9)),
    )


def target_vertices(source: WarpSource, target: FaceTrack) -> Tensor:  # (V, 3) camera space
    """The moved head. The target's own camera places it; its shape is the portrait's."""
    expression = target.expression
    if source.blink is not None:
        expression = source.blink.apply(expression, source.track.expression)
    posed = source.head.vertices(source.track.shape, expression, target.pose, source.offsets)
    return target.camera.to_camera(posed)[0]


def _look(track: FaceTrack) -> Tensor:  # (3,) where the nose points, camera space
    turn = axis_angle_to_matrix(track.pose[0, 0].float()) @ axis_angle_to_matrix(track.pose[0, 1].float())
    return (track.camera.view[0, :, :3].float() @ turn)[:, 2].cpu()


def _angle(a: Tensor, b: Tensor) -> float:
    return math.degrees(math.atan2(float(torch.linalg.cross(a, b).norm()), float(a @ b)))


def _yaw(look: Tensor) -> float:
    return math.degrees(math.atan2(float(look[0]), float(look[2])))


def _knee(angle: float, limit: float) -> float:
    start = KNEE * limit
    if angle <= start:
        return angle
    return start + (limit - start) * (1 - math.exp((start - angle) / (limit - start)))


def _between(a: Tensor, b: Tensor, share: float) -> Tensor:  # (1, 3) axis-angle
    start = axis_angle_to_matrix(a)
    change = matrix_to_axis_angle(start.transpose(-1, -2) @ axis_angle_to_matrix(b))
    return matrix_to_axis_angle(start @ axis_angle_to_matrix(share * change))
