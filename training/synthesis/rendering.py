"""A person in front of a background, as a linear picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from magicportrait_core.head.model import LEFT_EYE, LOWER_TEETH, RIGHT_EYE, UPPER_TEETH
from magicportrait_core.head.skinning import axis_angle_to_matrix, matrix_to_axis_angle, vertex_normals
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.rendering.rasterizer import rasterize

from .attire import TILE
from .lighting import Lights, Points, shade
from .motions import Motion, turn_matrix
from .people import Person
from .surface import HeadSurface

EYE_GLOSS, EYE_SHININESS = 0.8, 120.0
CLOTH_SHININESS = 20.0
UNDER_LID, UNDER_LIP = 0.30, 0.65  # least light on eyeballs, on teeth
HAIR_GIVES = 10.0  # share of its thickness per metre that loose hair moves aside


@dataclass(frozen=True)
class Stage:
    """What all frames of a clip share beside the person."""

    lights: Lights
    background: np.ndarray  # (side, side, 3) linear
    focal: float  # pixels
    place: np.ndarray  # (3,) of the middle of the portrait's head, camera space, metres
    side: int  # pixels of the square picture


@dataclass(frozen=True)
class Posed:
    """The truth of one frame: the bare head as the maps should see it, and where its skull is."""

    camera: Camera  # of the bust
    pose: Tensor  # (1, 5, 3)
    expression: Tensor  # (1, E)
    motion: Motion


def posed(surface: HeadSurface, person: Person, stage: Stage, motion: Motion, portrait: Motion) -> Posed:
    head = surface.head
    bust, skull = turn_matrix(motion.bust), turn_matrix(motion.head)
    pose = torch.zeros(1, 5, 3)
    pose[0, 1] = matrix_to_axis_angle((bust.T @ skull)[None])[0]
    # The middle of the portrait's head is at `place`; shoulders then stay, but for their sway.
    expression = torch.from_numpy(motion.expression)[None]
    own = turn_matrix(portrait.bust)
    neck = (own.T @ turn_matrix(portrait.head))[None]
    joint = head.rest_joints(person.shape, head.expressions())[0, 1]
    middle = head.rest_vertices(person.shape, head.expressions())[0].mean(0) + torch.tensor([0, 0.02, 0.02])
    pivot = own @ (neck[0] @ (middle - joint) + joint)
    base = own @ joint + torch.from_numpy(stage.place).float() - pivot  # of the neck, in camera space
    shift = base - bust @ joint + torch.from_numpy(motion.sway).float()
    view = torch.cat((bust, shift[:, None]), 1)[None]
    focal = torch.tensor([[stage.focal, stage.side / 2, stage.side / 2]], dtype=torch.float32)
    return Posed(Camera(view, focal, (stage.side, stage.side)), pose, expression, motion)


def render(surface: HeadSurface, person: Person, stage: Stage, where: Posed) -> np.ndarray:
    """(side, side, 3) linear light."""
    head, side = surface.head, surface.side
    loose = torch.from_numpy(where.motion.loose).float()
    hair = person.offsets * (1 + HAIR_GIVES * float(loose[0]))
    skin = head.vertices(person.shape, where.expression, where.pose, hair)
    parts, faces, corners = [skin[0]], [head.faces], [_head_corners(surface)]
    joint = head.rest_joints(person.shape, where.expression)[0, 1]
    neck = axis_angle_to_matrix(where.pose[:, 1])[0]
    count = head.num_vertices
    for number, solid in enumerate(person.solids):
        rest = torch.from_numpy(solid.vertices.astype(np.float32))
        follows = torch.from_numpy(solid.follows.astype(np.float32))[:, None]
        moved = torch.lerp(rest, (rest - joint) @ neck.T + joint, follows)
        parts.append(moved + (1 - follows) * loose)
        triangles = torch.from_numpy(solid.faces)
        faces.append(triangles + count)
        count += len(rest)
        uv = torch.from_numpy(solid.uv.astype(np.float32)).clamp(0.01, 0.99) * TILE
        corners.append((uv + uv.new_tensor([side, number * TILE]))[triangles])
    vertices, triangles = torch.cat(parts)[None], torch.cat(faces)
    seen = where.camera.to_camera(vertices)
    fragments = rasterize(where.camera.project_camera(seen), triangles, where.camera.size)
    normals = vertex_normals(seen, triangles)[0]
    openness = torch.ones(count)
    openness[: head.num_vertices] = surface.openness
    return _paint(surface, person, stage, where, fragments, triangles, normals, openness, torch.cat(corners))


def _head_corners(surface: HeadSurface) -> Tensor:  # (T, 3, 2) texels
    uv = surface.head.uvs[surface.head.faces_uv]
    return torch.stack((uv[..., 0], 1 - uv[..., 1]), -1) * surface.side


def _paint(surface, person, stage, where, fragments, triangles, normals, openness, corners) -> np.ndarray:
    head = surface.head
    triangle = fragments.triangle[0].numpy()
    rows, columns = np.nonzero(triangle >= 0)
    face = triangle[rows, columns]
    weights = fragments.barycentric[0].numpy()[rows, columns]
    vertex = triangles.numpy()[face]
    values = torch.cat((normals, openness[:, None]), 1).numpy()[vertex]
    values = (values * weights[..., None]).sum(1)
    normal = values[:, :3] / np.maximum(np.linalg.norm(values[:, :3], axis=1, keepdims=True), 1e-6)
    texel = (corners.numpy()[face] * weights[..., None]).sum(1)
    albedo, hairy = _look_up(person, texel)

    region = np.full(len(triangles), -1)
    region[: head.num_faces] = head.regions.numpy()
    gloss = np.zeros(len(triangles), np.float32)
    gloss[: head.num_faces] = person.gloss
    first = head.num_faces
    for solid in person.solids:
        gloss[first : first + len(solid.faces)] = solid.gloss
        first += len(solid.faces)
    part = region[face]
    eye = (part == LEFT_EYE) | (part == RIGHT_EYE)
    shiny = np.where(eye, EYE_GLOSS, gloss[face]).astype(np.float32)
    power = np.where(eye, EYE_SHININESS, np.where(part >= 0, person.shininess, CLOTH_SHININESS))
    light = values[:, 3] ** person.murk * _under_lids(triangle, region, rows, columns)
    back = normal[:, 2] < -0.2  # the inside of something
    points = Points(
        normal=normal.astype(np.float32),
        albedo=albedo,
        openness=np.where(back, 0.25 * light, light).astype(np.float32),
        gloss=shiny * (1 - 0.5 * hairy),
        shininess=power.astype(np.float32),
        soft=(part == 0) * (1 - hairy),
    )
    picture = stage.background.astype(np.float32).copy()
    picture[rows, columns] = shade(points, stage.lights.changed(where.motion.light))
    return picture


def _look_up(person: Person, texel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear albedo (P, 3) and nearest hairiness (P,) at texels (P, 2)."""
    height, width = person.atlas.shape[:2]
    x = np.clip(texel[:, 0] - 0.5, 0, width - 1.001)
    y = np.clip(texel[:, 1] - 0.5, 0, height - 1.001)
    left, top = x.astype(np.int64), y.astype(np.int64)
    right, low = (x - left)[:, None].astype(np.float32), (y - top)[:, None].astype(np.float32)
    flat, start = person.atlas.reshape(-1, 3), top * width + left
    upper = flat[start] * (1 - right) + flat[start + 1] * right
    lower = flat[start + width] * (1 - right) + flat[start + width + 1] * right
    side = person.hairiness.shape[0]
    hairy = np.where(left < side, person.hairiness[top, np.minimum(left, side - 1)], 0.0)
    return upper * (1 - low) + lower * low, hairy.astype(np.float32)


def _under_lids(
    triangle: np.ndarray, region: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """(P,) lids and lips shade what lies just behind them."""
    inner = (triangle >= 0) & (region[np.maximum(triangle, 0)] > 0)
    light = np.ones(len(rows), np.float32)
    if not inner.any():
        return light
    reach = max(3, triangle.shape[0] // 40)
    blurred = uniform_filter(uniform_filter(inner.astype(np.float32), reach), reach)
    inside = inner[rows, columns]
    part = region[triangle[rows[inside], columns[inside]]]
    least = np.where((part == UPPER_TEETH) | (part == LOWER_TEETH), UNDER_LIP, UNDER_LID)
    light[inside] = np.clip(least + 0.9 * blurred[rows[inside], columns[inside]], 0, 1)
    return light
