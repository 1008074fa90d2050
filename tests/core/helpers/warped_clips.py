"""Warped portraits drawn by hand: a square head that moves to the right, a pixel and a degree a
frame."""

from __future__ import annotations

import torch
from torch import Tensor

from magicportrait_core.guidance import GuidanceMaps
from magicportrait_core.models.config import ModelConfig
from magicportrait_core.models.initial import new_networks
from magicportrait_core.models.model import MagicPortraitModel
from magicportrait_core.warp.sources import MIRRORED, MOUTH, OUTSIDE, PHOTO
from magicportrait_core.warped_portrait import WarpedPortrait


def warped_clip(frames: int = 3, size: tuple[int, int] = (64, 64), seed: int = 0) -> WarpedPortrait:
    """Random colours; a head of photo with a mirrored right half and a mouth, a quarter of the picture."""
    generator = torch.Generator().manual_seed(seed)

    def levels(*shape: int) -> Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    height, width = size
    labels = torch.full((frames, 1, height, width), OUTSIDE, dtype=torch.uint8)
    for i, picture in enumerate(labels[:, 0]):
        head = picture[height // 4 : 3 * height // 4, width // 4 + i : 3 * width // 4 + i]
        head[:] = PHOTO
        head[:, width // 4 :] = MIRRORED
        head[height // 4 : height // 4 + 2, : width // 4] = MOUTH
    turn = torch.arange(frames, dtype=torch.float32)
    return WarpedPortrait(levels(3, height, width), levels(frames, 3, height, width), labels, turn)


def guidance_of(frames: int = 3, size: tuple[int, int] = (64, 64), seed: int = 1) -> GuidanceMaps:
    """Random maps."""
    generator = torch.Generator().manual_seed(seed)
    levels = [
        torch.randint(0, 256, (frames, channels, *size), dtype=torch.uint8, generator=generator)
        for channels in (1, 3, 3)
    ]
    return GuidanceMaps(*levels, flags=torch.ones(frames, 1, *size, dtype=torch.uint8))


def untrained(config: ModelConfig) -> MagicPortraitModel:
    """As training starts: its one-step result is the warp."""
    networks = new_networks(config)
    for network in (networks.appearance_net, networks.denoising_unet, networks.guidance_encoders):
        network.eval().requires_grad_(False)
    return MagicPortraitModel(
        config,
        networks.appearance_net,
        networks.denoising_unet,
        networks.guidance_encoders,
        text=torch.zeros(1, 1, config.unet.text_dim),
        fingerprint="untrained",
        name=config.name,
    )
