"""The toy networks and VAE in this process, for tests of the sampler and of what is connected to it."""

from dataclasses import replace
from pathlib import Path

import comfy.sd
import torch
from magicportrait_pack.magicportrait_core.models.model import MagicPortraitModel
from safetensors.torch import load_file
from toy_model import TOY, randomise, write_taesd

TOKENS = 7


def random(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


PORTRAIT = random(3, 100, 200) * 2 - 1
TEXT = [[random(1, TOKENS, 16), {"pooled_output": None}]]


def toy_model(text=None) -> MagicPortraitModel:
    from magicportrait_pack.magicportrait_core.models.appearance_net import AppearanceNet
    from magicportrait_pack.magicportrait_core.models.denoising_unet import DenoisingUNet
    from magicportrait_pack.magicportrait_core.models.guidance_encoder import GuidanceEncoders

    config = replace(TOY, unet=replace(TOY.unet, text_dim=16))
    generator = torch.Generator().manual_seed(0)
    networks = [
        randomise(network, generator)
        for network in (AppearanceNet(config.unet), DenoisingUNet(config.unet), GuidanceEncoders(config))
    ]
    return MagicPortraitModel(config, *networks, text=text, fingerprint="toy", name="toy")


def taesd(folder: Path, name: str, channels: int, scale: float = TOY.latent_scale) -> comfy.sd.VAE:
    write_taesd(folder, name, channels)
    weights = {"vae_scale": torch.tensor(scale), "vae_shift": torch.tensor(0.0)}
    for part in ("encoder", "decoder"):
        loaded = load_file(folder / f"{name}_{part}.safetensors")
        weights |= {f"taesd_{part}.{key}": value for key, value in loaded.items()}
    return comfy.sd.VAE(sd=weights)
