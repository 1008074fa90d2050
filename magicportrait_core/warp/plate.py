"""The still background of a portrait: the photo, filled where the person stands in front of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from .fill import blur, dilated, pixel_centres, pull_push, resize, sample, smoothstep

ROUNDED = 0.16  # face widths by which the outline is smoothed: its mirror image has no spikes then
REACH = (0.06, 0.22)  # face widths inside the outline over which the mirror image gives way to a smooth fill
STEEP = (0.25, 0.6)  # slope of the smoothed distance to the outline below, above which it has a direction
JOIN = 0.05  # face widths over which mirrored parts begin
SMOOTHING = 4  # sweeps of the smooth fill


def still_background(
    image: Tensor,  # (3, H, W) in [-1, 1]
    hole: Tensor,  # (1, H, W) 0 or 1, what is to be filled
    cell: int,  # photo pixels per cell in which the geometry is worked out
    face_width: float,  # cells
) -> Tensor:  # (3, H, W), the photo itself, bit for bit, outside the hole
    """The scene mirrored at the hole's rounded outline, which continues texture and lines that cross it;
    deeper in, and where the mirror would show the person, a smooth fill."""
    if not bool(hole.any()):
        return image.clone()
    size = tuple(image.shape[-2:])
    small = F.avg_pool2d(image[None], cell, ceil_mode=True)
    inside = F.max_pool2d(hole[None], cell, ceil_mode=True)
    smooth = resize(pull_push(small, 1 - inside, SMOOTHING), cell, size)[0]
    shift, weight = _mirror(inside[0, 0] > 0, face_width)
    shift, weight = (resize(part[None], cell, size)[0] for part in (shift, weight))
    seen = pixel_centres(size, image) + cell * shift
    mirrored = sample(image, seen, "bicubic").clamp(-1, 1)
    weight = weight * (sample(dilated(hole, 1), seen) < 0.01)  # what bicubic sampling reads around them
    return torch.where(hole > 0, torch.lerp(smooth, mirrored, weight), image)


def _mirror(
    inside: Tensor,  # (h, w) bool
    face_width: float,
) -> tuple[Tensor, Tensor]:  # (2, h, w) cells to the mirror image, (1, h, w) how much of it is used
    mask = inside.cpu().numpy()
    depth = distance_transform_edt(mask)
    distance = torch.from_numpy(depth - distance_transform_edt(~mask)).float().to(inside.device)
    rounded = blur(distance[None, None], max(ROUNDED * face_width, 0.5))[0, 0]
    across = F.pad((rounded[:, 2:] - rounded[:, :-2]) / 2, (1, 1))
    down = F.pad((rounded[2:] - rounded[:-2]) / 2, (0, 0, 1, 1))
    slope = torch.stack((across, down)).norm(dim=0).clamp(min=1e-3)
    direction = torch.stack((across, down)) / slope
    depth = torch.maximum(rounded, 0.5 * distance.clamp(min=0)).clamp(min=0) + 1
    shift = -2 * depth * direction
    seen = pixel_centres(tuple(inside.shape), rounded) + shift
    height, width = inside.shape
    within = (seen[0] >= 0) & (seen[0] < width) & (seen[1] >= 0) & (seen[1] < height)
    clear = sample((~inside)[None].float(), seen)[0] * within
    near = 1 - smoothstep(REACH[0] * face_width, REACH[1] * face_width, distance)
    weight = clear * smoothstep(*STEEP, slope) * near
    soft = blur(weight[None, None], max(JOIN * face_width, 0.5))[0]
    return shift, (1.6 * soft - 0.6).clamp(0, 1) * (clear > 0.95)
