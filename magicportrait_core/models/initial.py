"""Networks before their training."""

from __future__ import annotations

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from ..checkpoints.opening import Networks
from .appearance_net import AppearanceNet
from .config import ModelConfig
from .denoising_unet import DenoisingUNet
from .guidance_encoder import GuidanceEncoders

BELOW = 0.3  # share of the lower levels in the last resnet's input, at the start


def new_networks(config: ModelConfig, seed: int = 0) -> Networks:
    """Randomly initialised networks, the same for the same seed.

    Guidance encoders and motion modules start as no-ops. A warp-preconditioned model, which is trained from
    nothing, starts as one altogether: the Denoising UNet gives 0, which stands for the warp itself. Inside,
    each of its blocks starts by passing on what it gets (facts/SMALL_MODEL.md; Goyal et al. 2017, 5.1), and
    the guidance goes straight to the output, which learns from it at once.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = Networks(AppearanceNet(config.unet), DenoisingUNet(config.unet), GuidanceEncoders(config))
        if config.prior is not None:
            _start_straight(networks)
    return networks


@torch.no_grad()
def _start_straight(networks: Networks) -> None:
    for encoder in networks.guidance_encoders.values():
        encoder.conv_out.reset_parameters()  # zeros behind zeros would learn slowly
    for net in (networks.appearance_net, networks.denoising_unet):
        for module in net.modules():
            if isinstance(module, ResnetBlock2D):
                _zero(module.conv2)
            elif isinstance(module, Transformer2DModel) and module.proj_out is not None:
                _zero(module.proj_out)
    unet = networks.denoising_unet
    _zero(unet.conv_out)
    # The last resnet gets the guidance beside what came through the levels below.
    mix = unet.up_blocks[-1].resnets[-1].conv_shortcut
    channels = mix.out_channels
    mix.weight[:, :-channels] *= BELOW
    mix.weight[:, -channels:] = torch.eye(channels)[..., None, None]
    nn.init.zeros_(mix.bias)


def _zero(layer: nn.Module) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
