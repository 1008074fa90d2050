"""Finds the 478 landmarks on any head model, without anybody marking them by hand.

The head is rendered with random identities and views, the landmark network looks at the renders, and each
landmark is cast back onto the surface. The robust mean of the hits, on the template, is the landmark's place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..head.colours import part_colours
from ..head.model import LEFT_EYE, RIGHT_EYE, SKIN, HeadModel, LandmarkMap
from ..head.skinning import axis_angle_to_matrix, vertex_normals
from ..rendering.camera import Camera
from ..rendering.rasterizer import rasterize
from .landmarker import Landmarker, load_landmarker
from .observation import NUM_LANDMARKS

OnStep = Callable[[int, int], None]  # done, total

FIRST_IRIS = 468  # landmarks from here on lie on the eyeballs
LEFT_IRIS = range(473, 478)  # of the person's left eye, at positive x
LIGHTS = (((0.35, 0.45, 0.82), 0.75), ((-0.6, 0.1, 0.5), 0.25))  # direction, strength
AMBIENT = 0.12
BACKGROUND = 0.1  # grey of [-1, 1]


@dataclass
class Hits:
    """Points of the template under each landmark in all renders, and how squarely each was seen."""

    points: list[list[Tensor]]
    weights: list[list[float]]

    @classmethod
    def empty(cls) -> Hits:
        return cls([[] for _ in range(NUM_LANDMARKS)], [[] for _ in range(NUM_LANDMARKS)])


@dataclass(frozen=True)
class CalibrationOptions:
    people: int = 40
    yaws: tuple[float, ...] = (0.0, -35.0, 35.0, -15.0, 15.0)  # degrees
    pitch: float = 12.0  # degrees, drawn within +-
    size: int = 512  # pixels
    identity: float = 0.7  # standard deviation of the drawn identities
    jaw: tuple[float, float] = (0.08, 0.35)  # opening drawn between; parted lips do not hide one another
    least_facing: float = 0.25  # cosine of normal and view below which a hit is not trusted
    least_hits: int = 8
    seed: int = 1


def calibrate(
    head: HeadModel,
    options: CalibrationOptions = CalibrationOptions(),
    landmarker: Landmarker | None = None,
    on_step: OnStep | None = None,
) -> LandmarkMap:
    """The landmark map of a head. A landmark seen fewer than `least_hits` times is left unmatched (-1).

    Works on the CPU; about 25 ms a render. The landmark network's second look, at the region that its first
    landmarks give, is the one that counts.
    """
    landmarker = landmarker or load_landmarker()
    generator = torch.Generator().manual_seed(options.seed)
    hits = Hits.empty()
    total = options.people * len(options.yaws)
    for person in range(options.people):
        vertices = _random_person(head, options, generator)
        for view, yaw in enumerate(options.yaws):
            pitch = (2 * torch.rand(1, generator=generator).item() - 1) * options.pitch
            turned, screen = _seen(head, vertices, yaw, pitch, options.size)
            picture = _picture(head, turned, screen, options.size)
            if faces := landmarker.observe(picture):
                face = (landmarker.observe(picture, faces[:1]) or faces)[0]
                _cast(head, turned, screen, face.points, options, hits)
            if on_step is not None:
                on_step(person * len(options.yaws) + view + 1, total)
    landmarks = _settled(head, hits, options)
    if not landmarks.matched.any():
        raise ValueError(
            f"no face was found in {total} renders of head {head.name!r}, so its landmarks cannot be placed; "
            "check that it is a head in metres, upright and facing +z"
        )
    return landmarks


def mean_spread(landmarks: LandmarkMap) -> tuple[float, float]:
    """Median and 95th percentile of how far the landmarks wandered, metres."""
    spread = landmarks.spread[landmarks.matched]
    return spread.median().item(), spread.quantile(0.95).item()


def _random_person(head: HeadModel, options: CalibrationOptions, generator: torch.Generator) -> Tensor:
    """Vertices (1, V, 3) of a random identity with parted lips."""
    shape = options.identity * torch.randn(1, min(head.num_shape, 100), generator=generator)
    low, high = options.jaw
    opening = low + (high - low) * torch.rand(1, generator=generator).item()
    expression = head.template.new_zeros(1, head.num_expression)
    pose = head.template.new_zeros(1, 5, 3)
    if "jawOpen" in head.expression_names:
        expression = head.expressions(jawOpen=opening)
    elif not head.jaw_in_expression:
        pose[0, 2, 0] = opening * math.radians(24)  # ARKit's jawOpen turns the jaw by about 24 degrees
    return head.vertices(shape.to(head.template), expression, pose)


def _seen(head: HeadModel, vertices: Tensor, yaw: float, pitch: float, size: int) -> tuple[Tensor, Tensor]:
    """Vertices in camera space and on the picture, both (1, V, 3). Framed by the distance of the eyes."""
    eyes = head.joints_template[3:5]
    unit = (eyes[0] - eyes[1]).norm().item()
    centre = eyes.mean(0) + unit * eyes.new_tensor([0.0, -0.35, -1.0])
    turn = axis_angle_to_matrix(eyes.new_tensor([math.radians(pitch), 0.0, 0.0])) @ axis_angle_to_matrix(
        eyes.new_tensor([0.0, math.radians(yaw), 0.0])
    )
    distance = 20 * unit
    shift = -turn @ centre - eyes.new_tensor([0.0, 0.0, distance])
    camera = Camera(
        view=torch.cat((turn, shift[:, None]), 1)[None],
        intrinsics=eyes.new_tensor([[3.33 * size, size / 2, size / 2]]),
        size=(size, size),
    )
    return camera.to_camera(vertices), camera.project(vertices)


def _picture(head: HeadModel, turned: Tensor, screen: Tensor, size: int) -> Tensor:  # (3, H, W) in [-1, 1]
    fragments = rasterize(screen, head.faces, (size, size))
    normal = fragments.interpolate(vertex_normals(turned, head.faces), head.faces)[0]
    normal = torch.nn.functional.normalize(normal, dim=-1)
    light = normal.new_full(normal.shape[:2], AMBIENT)
    for direction, strength in LIGHTS:
        light = light + strength * (normal @ normal.new_tensor(direction)).clamp(min=0)
    covered = fragments.covered[0]
    picture = normal.new_full((size, size, 3), BACKGROUND)
    lit = part_colours(head)[fragments.triangle[0][covered]] * light[covered][:, None]
    picture[covered] = lit.clamp(0, 1) * 2 - 1
    return picture.permute(2, 0, 1).contiguous()


def _cast(
    head: HeadModel, turned: Tensor, screen: Tensor, points: Tensor, options: CalibrationOptions, hits: Hits
) -> None:
    """Adds the surface points under the landmarks, in the template's space, to `hits`."""
    size = options.size
    corners = turned[0, head.faces]
    facing = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = torch.nn.functional.normalize(facing, dim=-1)
    to_eye = torch.nn.functional.normalize(-corners.mean(1), dim=-1)
    facing = (facing * to_eye).sum(-1)
    column, row = points[:, 0].floor().long(), points[:, 1].floor().long()
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    for kind in _kinds(head):
        chosen = kind.drawn.nonzero()[:, 0]
        fragments = rasterize(screen, head.faces[chosen], (size, size))
        for k in kind.landmarks:
            local = fragments.triangle[0, row[k], column[k]].item() if inside[k] else -1
            if local < 0 or not kind.trusted[chosen[local]] or facing[chosen[local]] < options.least_facing:
                continue
            bary = fragments.barycentric[0, row[k], column[k]]
            hits.points[k].append(bary @ head.template[head.faces[chosen[local]]])
            hits.weights[k].append(facing[chosen[local]].item())


@dataclass(frozen=True)
class Kind:
    """Landmarks that belong to one part of the head."""

    drawn: Tensor  # (T,) bool, what hides what
    trusted: Tensor  # (T,) bool, where a hit counts
    home: Tensor  # (T,) bool, where the landmark is placed in the end
    landmarks: tuple[int, ...]


def _kinds(head: HeadModel) -> list[Kind]:
    """Irises lie on their eyeballs and are seen through the lids; all others lie on the skin.

    A lid's landmark may fall beside the lid, on the eyeball: that counts, and the skin next to it is taken.
    """
    skin = (head.regions == SKIN) & ~head.cavity
    left, right = head.regions == LEFT_EYE, head.regions == RIGHT_EYE
    right_iris = tuple(k for k in range(FIRST_IRIS, NUM_LANDMARKS) if k not in LEFT_IRIS)
    kinds = [
        Kind(torch.ones_like(skin), skin | left | right, skin, tuple(range(FIRST_IRIS))),
        Kind(left, left, left, tuple(LEFT_IRIS)),
        Kind(right, right, right, right_iris),
    ]
    return [kind for kind in kinds if kind.home.any()]


def _settled(head: HeadModel, hits: Hits, options: CalibrationOptions) -> LandmarkMap:
    triangles = torch.full((NUM_LANDMARKS,), -1)
    barycentric = torch.zeros(NUM_LANDMARKS, 3)
    spread = torch.full((NUM_LANDMARKS,), math.nan)
    for kind in _kinds(head):
        chosen = kind.home.nonzero()[:, 0]
        for k in kind.landmarks:
            if len(hits.points[k]) < options.least_hits:
                continue
            points, trust = torch.stack(hits.points[k]), torch.tensor(hits.weights[k])
            middle = geometric_median(points, trust)
            local, bary = closest_point(middle, head.template[head.faces[chosen]])
            triangles[k], barycentric[k] = chosen[local], bary
            spread[k] = (points - middle).norm(dim=-1).median()
    return LandmarkMap(triangles, barycentric, spread)


def geometric_median(
    points: Tensor,  # (N, 3)
    weights: Tensor,  # (N,)
    steps: int = 30,
) -> Tensor:  # (3,)
    """The point of least weighted distance to all others (Weiszfeld), hardly moved by outliers."""
    middle = points.median(0).values
    for _ in range(steps):
        pull = weights / ((points - middle).norm(dim=-1) + 1e-5)
        middle = (points * pull[:, None]).sum(0) / pull.sum()
    return middle


def closest_point(
    point: Tensor,  # (3,)
    corners: Tensor,  # (T, 3, 3)
    candidates: int = 40,
) -> tuple[int, Tensor]:
    """The triangle nearest to a point, and the barycentric coordinates (3,) of the nearest point in it.

    Only the triangles with the nearest centres are looked at; outside a triangle its coordinates are clamped.
    """
    near = (corners.mean(1) - point).norm(dim=-1).topk(min(candidates, len(corners)), largest=False).indices
    a, b, c = corners[near].double().unbind(1)
    p = point.double()
    normal = torch.linalg.cross(b - a, c - a)
    area = (normal * normal).sum(-1).clamp(min=1e-24)
    first = (torch.linalg.cross(c - b, p - b) * normal).sum(-1) / area
    second = (torch.linalg.cross(a - c, p - c) * normal).sum(-1) / area
    bary = torch.stack((first, second, 1 - first - second), -1).clamp(0, 1)
    bary = bary / bary.sum(-1, keepdim=True)
    reached = (bary[..., None] * corners[near].double()).sum(1)
    best = (reached - p).norm(dim=-1).argmin()
    return near[best].item(), bary[best].float()
