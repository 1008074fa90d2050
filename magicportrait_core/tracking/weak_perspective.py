"""DECA's camera: scale and shift in the square of a face crop, and the crop's place in the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from ..rendering.camera import Camera

CROP = 224  # pixels, side of DECA's input


def project_to_crop(
    points: Tensor,  # (B, N, 3) head space
    scale_shift: Tensor,  # (B, 3) s, tx, ty
) -> Tensor:  # (B, N, 3) in -1..1 of the crop, x right, y down; smaller z is nearer
    """s (x + tx, y + ty, z) with y and z negated (the released code's batch_orth_proj and flip)."""
    scale, shift = scale_shift[:, None, :1], scale_shift[:, None, 1:]
    moved = torch.cat((points[..., :2] + shift, points[..., 2:]), -1)
    return scale * moved * points.new_tensor([1.0, -1.0, -1.0])


def crop_to_picture(
    points: Tensor,  # (B, N, 3) in -1..1 of the crop
    crop_transform: Tensor,  # (B or 1, 3, 3) crop pixels -> picture pixels, for row vectors
    size: int = 512,  # side of the picture, pixels
) -> Tensor:  # (B, N, 3) in -1..1 of the picture; z untouched
    """The points of a crop in the picture it was cut from."""
    pixels = (points[..., :2] * 0.5 + 0.5) * CROP
    pixels = torch.cat((pixels, torch.ones_like(pixels[..., :1])), -1) @ crop_transform
    return torch.cat((pixels[..., :2] / size * 2 - 1, points[..., 2:]), -1)


def weak_perspective_camera(
    scale_shift: Tensor,  # (F, 3) s, tx, ty
    crop_transform: Tensor,  # (F or 1, 3, 3)
    size: tuple[int, int],  # height, width of the picture, pixels
) -> Camera:
    """The same projection as one orthographic Camera; the crop must be upright (no turn, no shear)."""
    if crop_transform[:, 0, 1].abs().max() > 1e-6 or crop_transform[:, 1, 0].abs().max() > 1e-6:
        raise ValueError(
            "crop_transform turns the picture; a Camera's intrinsics can only scale and shift it"
        )
    frames = len(scale_shift)
    zoom = crop_transform[:, 0, 0].expand(frames)
    half = CROP / 2
    focal = scale_shift[:, 0] * half * zoom
    cx = zoom * half + focal * scale_shift[:, 1] + crop_transform[:, 2, 0]
    cy = zoom * half - focal * scale_shift[:, 2] + crop_transform[:, 2, 1]
    view = torch.eye(3, 4).to(scale_shift).expand(frames, 3, 4)
    return Camera(view, torch.stack((focal, cx, cy), 1), size, "orthographic")
