"""Warp preconditioning: a v-prediction that starts at the flow-warped portrait.

With a clean latent x0 ~ N(W, s^2) and noise n of standard deviation r, x = a x0 + q n, the best prediction of
v = a n - q x0 and what it leaves open are

    v = q (a (1 - k^2) x - W) / d + (s / sqrt d) F,    k = s / r,    d = q^2 + a^2 k^2,

where F, the network's output, has variance 1 (facts/SMALL_MODEL.md 5 for r = 1; for W = 0 that is the
preconditioning of Karras et al. 2022 in v-form). With zero terminal SNR (a = 0, q = 1) one step gives
x0 = W - s F: an untrained network, whose output is 0, gives the warp itself. The smaller r, the more of the
estimate of earlier steps is kept: then later steps refine, and cannot do worse than the first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..models.config import WarpPriorConfig
from ..warp.sources import MOUTH, OUTSIDE, PHOTO


def precondition(
    output: Tensor,  # F of the network, (B, C, ...)
    latents: Tensor,  # x, of the same shape
    signal: Tensor | float,  # a, one or (B, 1, ...)
    sigma: Tensor | float,  # q
    mean: Tensor,  # W, as latents
    deviation: Tensor,  # s, (B, 1, ...), above 0
    noise: float = 1.0,  # r, WarpPriorConfig.noise
) -> Tensor:
    """The v-prediction that the network's output stands for."""
    ratio = (deviation / noise).square()
    d = sigma**2 + signal**2 * ratio
    known = sigma * (signal * (1 - ratio) * latents - mean) / d
    return known + output_scale(signal, sigma, deviation, noise) * output


def output_scale(
    signal: Tensor | float, sigma: Tensor | float, deviation: Tensor, noise: float = 1.0
) -> Tensor:
    """s / sqrt d: how much of v one unit of the network's output is."""
    return deviation / (sigma**2 + signal**2 * (deviation / noise).square()).sqrt()


def prior_deviation(
    labels: Tensor,  # (N, 1, H, W) uint8, index into warp.sources.SOURCES
    config: WarpPriorConfig,
    pixels_per_cell: int,
) -> Tensor:  # (N, 1, h, w) float32
    """The standard deviation of each latent cell, from where the warp took its pixels.

    Mixed cells get the mean of their pixels' values, cells with a bit of mouth at least the mouth's.
    """
    head = labels != OUTSIDE

    def share(mask: Tensor) -> Tensor:
        return functional.avg_pool2d(mask.float(), pixels_per_cell)

    on, photo = share(head), share(labels == PHOTO)
    touched = (on > 0).float()
    near, around = (grown(touched, cells) for cells in (config.near_cells, config.around_cells))
    deviation = photo * config.photo + (on - photo) * config.made_up
    deviation += (near - on) * config.near + (around - near) * config.around + (1 - around) * config.far
    mouth = (share(labels == MOUTH) > 0).float()
    return torch.maximum(deviation, config.mouth * mouth)


def grown(mask: Tensor, cells: int) -> Tensor:
    """A mask (N, 1, h, w), wider by some cells on all sides."""
    return functional.max_pool2d(mask, 2 * cells + 1, stride=1, padding=cells)
