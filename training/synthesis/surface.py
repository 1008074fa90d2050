"""What painters need to know about the open head, once per process: where its texture lies on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from magicportrait_core.head.model import HeadModel
from magicportrait_core.head.skinning import vertex_normals
from magicportrait_core.head_appearance import outer_skin
from magicportrait_core.rendering.texture import texel_fragments

EYES = (5, 4)  # regions of the right and the left eye


@dataclass(frozen=True)
class EyeTexels:
    """Texels of one eyeball in polar coordinates about its pupil."""

    index: np.ndarray  # (N,) into the flattened texture
    radius: np.ndarray  # (N,) 1 at the rim of the iris
    angle: np.ndarray  # (N,) radians


@dataclass(frozen=True)
class HeadSurface:
    head: HeadModel
    side: int  # texels of the square texture
    landmarks: np.ndarray  # (478, 2) x, y in texels
    points: np.ndarray  # (side, side, 3) place on the template of every texel, metres; 0 where nothing is
    region: np.ndarray  # (side, side) HeadModel.regions, -1 where nothing is
    cavity: np.ndarray  # (side, side) bool, inside of the mouth
    eyes: tuple[EyeTexels, EyeTexels]  # right, left
    normals: Tensor  # (V, 3) of the template
    openness: Tensor  # (V,) 0..1 how much light comes to the vertex: little deep in the mouth
    skin: Tensor  # (V,) bool, vertices of the outer skin

    @property
    def template(self) -> np.ndarray:  # (V, 3)
        return self.head.template.numpy()


def head_surface(head: HeadModel, side: int) -> HeadSurface:
    fragments = texel_fragments(head.uvs, head.faces_uv, side)
    triangle = fragments.triangle[0]
    inside = triangle.clamp(min=0)
    covered = (triangle >= 0).numpy()
    corners = head.template[head.faces[inside]]
    points = (corners * fragments.barycentric[0][..., None]).sum(2).numpy()
    marks = head.landmarks
    uv = (head.uvs[head.faces_uv[marks.triangles.clamp(min=0)]] * marks.barycentric[..., None]).sum(1).numpy()
    region = np.where(covered, head.regions[inside].numpy(), -1)
    iris = np.where(covered, head.iris[inside].numpy(), 0)
    skin = torch.zeros(head.num_vertices, dtype=torch.bool)
    skin[head.faces[outer_skin(head)].reshape(-1)] = True
    return HeadSurface(
        head=head,
        side=side,
        landmarks=np.stack((uv[:, 0], 1 - uv[:, 1]), 1) * side,
        points=points.astype(np.float32),
        region=region,
        cavity=covered & head.cavity[inside].numpy(),
        eyes=tuple(_eye_texels(region == number, iris) for number in EYES),
        normals=vertex_normals(head.template[None], head.faces)[0],
        openness=_openness(head, skin),
        skin=skin,
    )


def _eye_texels(ball: np.ndarray, iris: np.ndarray) -> EyeTexels:
    rows, columns = np.nonzero(ball & (iris > 0))
    centre = rows.mean(), columns.mean()
    rim = np.hypot(rows - centre[0], columns - centre[1]).max() + 0.5
    rows, columns = np.nonzero(ball)
    down, across = rows - centre[0], columns - centre[1]
    index = rows * ball.shape[1] + columns
    radius = np.hypot(down, across) / rim
    return EyeTexels(index, radius.astype(np.float32), np.arctan2(down, across).astype(np.float32))


def _openness(head: HeadModel, skin: Tensor) -> Tensor:
    """Teeth, tongue and cavity are darker the further they lie behind the lips."""
    lips = head.landmark_points(head.template[None])[0, [13, 14], 2].mean()
    depth = lips - head.template[:, 2]
    inner = ~skin
    for number in EYES:
        inner[head.faces[head.regions == number].reshape(-1)] = False
    shade = (1.05 - depth / 0.035).clamp(0.06, 0.9)
    return torch.where(inner, shade, torch.ones_like(shade))
