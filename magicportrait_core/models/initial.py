"""Networks before their training."""

from __future__ import annotations

import torch
from torch import nn

from ..checkpoints.opening import Networks
from .appearance_net import AppearanceNet
from .config import ModelConfig
from .denoising_unet import DenoisingUNet
from .guidance_encoder import GuidanceEncoders


def new_networks(config: ModelConfig, seed: int = 0) -> Networks:
    """Randomly initialised networks, the same for the same seed.

    Guidance encoders and motion modules start as no-ops. A warp-preconditioned model starts as one
    altogether: the Denoising UNet gives 0, which stands for the warp itself. Its guidance encoders speak from
    the beginning: they are all that it sees in its first step of sampling, and zeros behind zeros learn
    slowly.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = Networks(AppearanceNet(config.unet), DenoisingUNet(config.unet), GuidanceEncoders(config))
    if config.prior is not None:
        nn.init.zeros_(networks.denoising_unet.conv_out.weight)
        nn.init.zeros_(networks.denoising_unet.conv_out.bias)
    return networks
