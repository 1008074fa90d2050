"""The 68 landmarks of DECA's landmark_embedding.npy: a fixed set, and one whose contour follows the yaw."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .files import HeadFileError
from .safe_pickle import RefusedPickle, read_pickle

MOST_YAW = 39  # degrees; the contour table has one row a degree: 0..39 to one side, then -1..-39


@dataclass(frozen=True)
class Landmarks68:
    """Points on FLAME's triangles. Contour points (the first 17) come from the row of the head's yaw."""

    full_triangles: Tensor  # (68,) int64
    full_barycentric: Tensor  # (68, 3)
    inner_triangles: Tensor  # (51,)
    inner_barycentric: Tensor  # (51, 3)
    contour_triangles: Tensor  # (79, 17)
    contour_barycentric: Tensor  # (79, 17, 3)

    def points(
        self,
        vertices: Tensor,  # (B, V, 3)
        faces: Tensor,  # (T, 3)
    ) -> Tensor:  # (B, 68, 3)
        """The fixed set, on the surface whatever the view."""
        return _on_surface(vertices, faces, self.full_triangles, self.full_barycentric)

    def points_with_contour(
        self,
        vertices: Tensor,  # (B, V, 3)
        faces: Tensor,  # (T, 3)
        rotation: Tensor,  # (B, 3, 3) of the head: root rotation times neck rotation
    ) -> Tensor:  # (B, 68, 3)
        """Contour points at the visible outline for the head's yaw, then the 51 inner points."""
        row = contour_row(rotation)
        triangles = torch.cat((self.contour_triangles[row], self.inner_triangles.expand(len(row), -1)), 1)
        barycentric = torch.cat(
            (self.contour_barycentric[row], self.inner_barycentric.expand(len(row), -1, -1)), 1
        )
        frame = torch.arange(len(row), device=vertices.device)[:, None, None]
        return (vertices[frame, faces[triangles]] * barycentric[..., None]).sum(2)


def contour_row(
    rotation: Tensor,  # (B, 3, 3)
) -> Tensor:  # (B,) int64, 0..78
    """The contour table's row: whole degrees of yaw, at most 39 either way; negative yaws come after."""
    across = torch.sqrt(rotation[:, 0, 0] ** 2 + rotation[:, 1, 0] ** 2)
    yaw = torch.rad2deg(torch.atan2(-rotation[:, 2, 0], across))
    degrees = torch.round(yaw.clamp(max=MOST_YAW)).long()
    return torch.where(degrees < 0, (MOST_YAW - degrees).clamp(max=2 * MOST_YAW), degrees)


def read_landmarks_68(path: str | Path) -> Landmarks68:
    """DECA's landmark_embedding.npy (a pickled table), read without running anything in it."""
    path = Path(path)
    try:
        data = path.read_bytes()
        file = io.BytesIO(data)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if not dtype.hasobject or shape != ():
            raise HeadFileError(f"{path.name} holds numbers of shape {shape}, not DECA's table of landmarks")
        table = read_pickle(file)
        table = table.item() if isinstance(table, np.ndarray) else table
        return Landmarks68(
            full_triangles=_whole(table["full_lmk_faces_idx"]).flatten(),
            full_barycentric=_real(table["full_lmk_bary_coords"]).reshape(-1, 3),
            inner_triangles=_whole(table["static_lmk_faces_idx"]),
            inner_barycentric=_real(table["static_lmk_bary_coords"]),
            contour_triangles=_whole(table["dynamic_lmk_faces_idx"]),
            contour_barycentric=_real(table["dynamic_lmk_bary_coords"]),
        )
    except HeadFileError:
        raise
    except RefusedPickle as error:
        raise HeadFileError(
            f"{path.name} asks to load {error}, which DECA's landmark file does not need; nothing in it ran"
        ) from None
    except Exception as error:  # a damaged pickle may raise anything
        raise HeadFileError(
            f"{path.name} cannot be read as DECA's landmark_embedding.npy ({type(error).__name__}: {error})"
        ) from None


def _whole(values: object) -> Tensor:
    return torch.as_tensor(values).long()


def _real(values: object) -> Tensor:
    return torch.as_tensor(values).float()


def _on_surface(vertices: Tensor, faces: Tensor, triangles: Tensor, barycentric: Tensor) -> Tensor:
    return (vertices[:, faces[triangles]] * barycentric[..., None]).sum(2)
