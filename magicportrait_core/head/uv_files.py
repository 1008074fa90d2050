"""Texture coordinates for heads whose model file has none."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from .files import HeadFileError


def read_template_uvs(
    path: str | Path,
    faces: Tensor,  # (T, 3) of the head the coordinates are for
) -> tuple[Tensor, Tensor]:
    """uvs (U, 2), v up, and faces_uv (T, 3) of an .obj with the same triangles, such as head_template.obj."""
    path = Path(path)
    uvs, corners, corners_uv = [], [], []
    try:
        for line in path.read_text().splitlines():
            word, *rest = line.split() or [""]
            if word == "vt":
                uvs.append([float(x) for x in rest[:2]])
            elif word == "f":
                pairs = [entry.split("/") for entry in rest]
                corners.append([int(p[0]) - 1 for p in pairs])
                corners_uv.append([int(p[1]) - 1 for p in pairs])
        found, found_uv = torch.tensor(corners), torch.tensor(corners_uv)
    except (OSError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise HeadFileError(
            f"{path.name} cannot be read as an .obj of triangles with uvs ({error})"
        ) from None
    if found.shape != faces.shape or not torch.equal(found, faces):
        raise HeadFileError(
            f"{path.name} has {len(found)} triangles that differ from the head's {len(faces)}; "
            "use the head_template.obj that belongs to the model"
        )
    if found_uv.min() < 0 or found_uv.max() >= len(uvs):
        raise HeadFileError(f"{path.name} names texture coordinate {int(found_uv.max()) + 1} of {len(uvs)}")
    return torch.tensor(uvs), found_uv


def cylindrical_uvs(
    template: Tensor,  # (V, 3)
    faces: Tensor,  # (T, 3)
) -> tuple[Tensor, Tensor]:
    """uvs (U, 2) and faces_uv (T, 3) by wrapping a cylinder around the head, with the seam at the back."""
    middle = template.mean(0)
    turn = torch.atan2(template[:, 0] - middle[0], template[:, 2] - middle[2]) / (2 * math.pi) + 0.5
    height = (template[:, 1] - template[:, 1].min()) / (template[:, 1].max() - template[:, 1].min()).clamp(
        min=1e-9
    )
    around = turn[faces]
    crosses = (around.amax(1) - around.amin(1) > 0.5)[:, None] & (
        around < 0.5
    )  # corners to repeat past the seam
    faces_uv = torch.where(crosses, faces + len(template), faces)
    uvs = torch.cat((torch.stack((turn, height), 1), torch.stack((turn + 1, height), 1)))
    used, inverse = faces_uv.unique(return_inverse=True)
    uvs = uvs[used]
    uvs[:, 0] /= max(1.0, uvs[:, 0].max().item())
    return uvs, inverse
