"""The released networks at toy size with random weights (tests/golden): state dicts and the matching config.

Levels of 32, 64, 32 and 32 channels, 16 text features, pictures of 192x128 (latents of 24x16).
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from magicportrait_core.checkpoints.key_maps import APPEARANCE_NET, DENOISING_UNET, GUIDANCE_ENCODER
from magicportrait_core.models.config import GUIDANCE_MAPS, GuidanceEncoderConfig, ModelConfig, UNetConfig
from magicportrait_core.models.model import MagicPortraitModel

GOLDEN = Path(__file__).with_name("golden")
GOLDEN_CONFIG = ModelConfig(
    name="golden",
    unet=UNetConfig(block_out_channels=(32, 64, 32, 32), text_dim=16),
    guidance=GuidanceEncoderConfig(block_out_channels=(16, 32, 32, 32)),
)


def golden_state(name: str) -> dict[str, Tensor]:
    """Tensors of tests/golden/`name`.safetensors in float32 under their released names.

    Files: denoising_unet (with motion modules), reference_unet, guidance_encoder_{depth,normal,render}, vae.
    """
    return {key: value.float() for key, value in load_file(GOLDEN / f"{name}.safetensors").items()}


def split_motion(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A whole denoising_unet as the release has it: the UNet of single frames, and the motion modules."""
    motion = {name: value for name, value in state.items() if ".motion_modules." in name}
    return {name: value for name, value in state.items() if name not in motion}, motion


def weights_of(model: MagicPortraitModel) -> dict[str, Tensor]:
    """The tensors of all networks of a model."""
    parts = ("appearance_net", "denoising_unet", "guidance_encoders")
    states = {part: getattr(model, part).state_dict() for part in parts}
    return {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}


def assert_same_weights(first: MagicPortraitModel, second: MagicPortraitModel) -> None:
    """Bit for bit, in the same precision."""
    a, b = weights_of(first), weights_of(second)
    assert a.keys() == b.keys()
    different = [name for name in a if a[name].dtype != b[name].dtype or not torch.equal(a[name], b[name])]
    assert not different


def golden_model() -> MagicPortraitModel:
    """The three networks with the golden weights in float32, in eval mode, without the checkpoint loader."""
    from magicportrait_core.models.appearance_net import AppearanceNet
    from magicportrait_core.models.denoising_unet import DenoisingUNet
    from magicportrait_core.models.guidance_encoder import GuidanceEncoders

    appearance_net = AppearanceNet(GOLDEN_CONFIG.unet)
    appearance_net.load_state_dict(APPEARANCE_NET.translate(golden_state("reference_unet")))
    denoising_unet = DenoisingUNet(GOLDEN_CONFIG.unet)
    denoising_unet.load_state_dict(DENOISING_UNET.translate(golden_state("denoising_unet")))
    encoders = GuidanceEncoders(GOLDEN_CONFIG)
    for kind in GUIDANCE_MAPS:
        encoders[kind].load_state_dict(GUIDANCE_ENCODER.translate(golden_state(f"guidance_encoder_{kind}")))
    return MagicPortraitModel(
        config=GOLDEN_CONFIG,
        appearance_net=appearance_net.eval(),
        denoising_unet=denoising_unet.eval(),
        guidance_encoders=encoders.eval(),
        text=None,
        fingerprint="golden",
        name="golden",
    )
