"""Light from the picture of a surface: second-order spherical harmonics, fitted robustly."""

from __future__ import annotations

import torch
from torch import Tensor

from .shading import SH_CONSTANTS, spherical_harmonics

ROUNDS = 12  # of reweighting; converges well before
SPREAD = 0.08  # residual (0..1) at which a sample counts half: brows, lips, moles, hair are darker than that
STIFFNESS = (
    0.0,
    *(0.02,) * 3,
    *(0.25,) * 5,
)  # prior on the nine terms; the picture shows half a sphere at most
DARKEST, BRIGHTEST = 0.4, 1.7  # shading allowed on any normal that can turn up in front of the camera


def fit_light(
    normals: Tensor,  # (N, 3) camera axes
    colours: Tensor,  # (N, 3) 0..1, mostly of one material
    weights: Tensor,  # (N,)
) -> Tensor:  # (9, 3), shading 1 on average over the samples in every channel
    """The light in which a surface of one colour looks most like the samples.

    What one colour cannot explain (brows, lips, shadows) is left to the albedo. Dark and bright limits keep
    albedo = colour / shading stable, and keep parts that the picture does not show from going black.
    """
    device = normals.device
    normals, colours, weights = (
        normals.cpu(),
        colours.cpu(),
        weights.cpu(),
    )  # small, and not all devices solve
    terms = spherical_harmonics(normals)  # (N, 9)
    weights = weights / weights.sum().clamp(min=1e-6)
    prior = torch.diag(terms.new_tensor(STIFFNESS))
    light = []
    for channel in colours.unbind(1):
        robust = weights
        for _ in range(ROUNDS):
            weighted = terms * robust[:, None]
            matrix = terms.T @ weighted + prior * robust.sum() + torch.eye(9) * 1e-6
            solution = torch.linalg.solve(matrix, weighted.T @ channel)
            residual = channel - terms @ solution
            robust = weights / (1 + (residual / SPREAD) ** 2)
        light.append(solution)
    light = torch.stack(light, dim=1)
    light = light / (weights @ (terms @ light)).clamp(min=1e-3)
    return _limited(light).to(device)


def _limited(light: Tensor) -> Tensor:
    """Mixes in even light until shading stays within the limits on normals that nearly face the camera."""
    shading = spherical_harmonics(_directions(light)) @ light
    low, high = shading.min().item(), shading.max().item()
    share = 1.0
    if low < DARKEST:
        share = min(share, (1 - DARKEST) / (1 - low))
    if high > BRIGHTEST:
        share = min(share, (BRIGHTEST - 1) / (high - 1))
    even = torch.zeros_like(light)
    even[0] = 1 / SH_CONSTANTS[0]
    return share * light + (1 - share) * even


def _directions(like: Tensor, count: int = 400) -> Tensor:  # (count, 3)
    """Evenly spread unit vectors, from straight at the camera to a little beyond sideways."""
    number = torch.arange(count, device=like.device) + 0.5
    z = 1 - number / count * 1.4
    angle = number * 2.399963  # golden angle
    ring = (1 - z * z).sqrt()
    return torch.stack((ring * angle.cos(), ring * angle.sin(), z), dim=-1)
