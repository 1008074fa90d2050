"""The similarity that lays one set of points over another (Umeyama 1991), batched and weighted."""

from __future__ import annotations

import torch
from torch import Tensor


def similarity_transform(
    source: Tensor,  # (K, 3) or (F, K, 3)
    target: Tensor,  # (F, K, 3)
    weight: Tensor,  # (K,) or (F, K)
) -> tuple[Tensor, Tensor, Tensor]:  # scale (F,), rotation (F, 3, 3), shift (F, 3)
    """target ~ scale * rotation @ source + shift, least squares; the rotation is proper (no mirror)."""
    share = (weight / weight.sum(-1, keepdim=True))[..., None]
    source_mean, target_mean = (share * source).sum(-2), (share * target).sum(-2)
    near, far = source - source_mean[..., None, :], target - target_mean[..., None, :]
    left, singular, right = torch.linalg.svd((share * far).transpose(-1, -2) @ near)
    sign = torch.ones_like(singular)
    sign[..., 2] = torch.linalg.det(left @ right).sign()
    rotation = left @ (sign[..., None] * right)
    scale = (singular * sign).sum(-1) / (share * near**2).sum((-1, -2))
    return scale, rotation, target_mean - scale[..., None] * (rotation @ source_mean[..., None]).squeeze(-1)
