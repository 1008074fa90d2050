"""Small model files for tests: a toy MagicPortrait, an autoencoder and a text encoder that ComfyUI loads.

    write_models(models)  # a ComfyUI's models folder, about 2 s, 250 MB (nearly all of it the text encoder)

The networks are the real classes at toy size with random weights, none of them zero. The autoencoder is not
random: it is a mosaic of 8 x 8 pixels, so that frames can be checked by hand.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from magicportrait_core.models.config import SMALL, GuidanceEncoderConfig, ModelConfig, UNetConfig

TOY = ModelConfig(
    name="toy",
    unet=UNetConfig(
        block_out_channels=(16, 16, 32, 32), layers_per_block=1, heads=2, norm_groups=8, motion_heads=2
    ),
    guidance=GuidanceEncoderConfig(block_out_channels=(8, 8, 16, 16), heads=2, norm_groups=8),
    window=6,  # so that short clips have several
)
TOY_SMALL = replace(  # as the built-in model: it repairs the warp, and needs neither VAE nor text encoder
    SMALL,
    name="toy_small",
    unet=replace(SMALL.unet, block_out_channels=(16, 16, 32), heads=2, motion_heads=2),
    guidance=replace(SMALL.guidance, block_out_channels=(8,), heads=2),
    side=64,
    window=6,
)
MODEL, VAE, TEXT_ENCODER = "toy", "taesd", "clip_l.safetensors"  # as the loader nodes call them
TAESD_CHANNELS = 64


def write_models(models: Path) -> None:
    """All three, where ComfyUI looks for them."""
    write_model(models / "magicportrait" / MODEL)
    write_taesd(models / "vae_approx")
    write_clip_l(models / "text_encoders" / TEXT_ENCODER)


def write_model(
    folder: Path,
    config: ModelConfig = TOY,
    text: bool | Tensor = False,
    seed: int = 0,
    untrained: bool = False,
) -> Path:
    """A MagicPortrait model in our converted format; text stores an embedding of the prompt in it.

    untrained: as before the first step of training, else no weight is zero.
    """
    from magicportrait_core.checkpoints.writing import write_network
    from magicportrait_core.models.initial import new_networks

    folder.mkdir(parents=True, exist_ok=True)
    for i, (role, network) in enumerate(new_networks(config, seed).by_role().items()):
        generator = torch.Generator().manual_seed(1000 * seed + i)
        if not untrained:
            randomise(network, generator)
        if text is True:
            text = torch.randn(1, 77, config.unet.text_dim, generator=generator)
        write_network(
            folder / f"{role}.safetensors",
            network,
            role,
            config,
            {"source": "tests/helpers/toy_model.py"},
            text=text if role == "denoising_unet" and text is not False else None,
        )
    return folder


def write_small_model(folder: Path, config: ModelConfig = TOY_SMALL, **how) -> Path:
    """A warp-preconditioned model at toy size; untrained, its one-step result is the warp itself."""
    return write_model(folder, config, torch.zeros(1, 1, config.unet.text_dim), **how)


def randomise(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Random weights that keep the scale of what goes through, also where training starts with zeros."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim > 1:
                weight.copy_(noise / weight[0].numel() ** 0.5)
            else:
                weight.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
    return module


def write_taesd(folder: Path, name: str = "taesd", channels: int = 4) -> None:
    """A pair of files for ComfyUI's Load VAE; name "taesd3" with 16 channels is one of another family.

    Latents are 4 (colour - 0.5) of each 8 x 8 pixels, in the network's scale, red, green, blue, red, ...
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_taesd_encoder(channels), folder / f"{name}_encoder.safetensors")
    save_file(_taesd_decoder(channels), folder / f"{name}_decoder.safetensors")


def _taesd_encoder(channels: int) -> dict[str, Tensor]:
    weights = _convolution("0", TAESD_CHANNELS, 3, _centre(torch.eye(TAESD_CHANNELS, 3)))
    for block in (1, 3, 4, 5, 7, 8, 9, 11, 12, 13):
        weights |= _passing_block(block)
    halve = torch.zeros(TAESD_CHANNELS, TAESD_CHANNELS, 3, 3)
    halve[:, :, 1:, 1:] = torch.eye(TAESD_CHANNELS)[:, :, None, None] / 4  # mean of 2 x 2 pixels
    for layer in (2, 6, 10):
        weights |= {f"{layer}.weight": halve.clone()}
    colours = 4.0 * torch.eye(3, TAESD_CHANNELS)[torch.arange(channels) % 3]
    return weights | _convolution("14", channels, TAESD_CHANNELS, _centre(colours), bias=-2.0)


def _taesd_decoder(channels: int) -> dict[str, Tensor]:
    # The first layer of the host's decoder is 3 tanh(x / 3); everything after it must stay positive.
    weights = _convolution("1", TAESD_CHANNELS, channels, _centre(torch.eye(TAESD_CHANNELS, channels)), 4.0)
    for block in (3, 4, 5, 8, 9, 10, 13, 14, 15, 18):
        weights |= _passing_block(block)
    for layer in (7, 12, 17):
        weights |= {f"{layer}.weight": _centre(torch.eye(TAESD_CHANNELS))}
    return weights | _convolution("19", 3, TAESD_CHANNELS, _centre(torch.eye(3, TAESD_CHANNELS) / 4), -0.5)


def _centre(matrix: Tensor) -> Tensor:
    """A 3 x 3 convolution that applies a matrix to each pixel."""
    weight = torch.zeros(*matrix.shape, 3, 3)
    weight[:, :, 1, 1] = matrix
    return weight


def _convolution(name: str, to: int, of: int, weight: Tensor, bias: float = 0.0) -> dict[str, Tensor]:
    assert weight.shape[:2] == (to, of)
    return {f"{name}.weight": weight, f"{name}.bias": torch.full((to,), bias)}


def _passing_block(number: int) -> dict[str, Tensor]:
    """relu(0 + x): hands positive values on."""
    shape = (TAESD_CHANNELS, TAESD_CHANNELS, 3, 3)
    layers = [_convolution(f"{number}.conv.{i}", *shape[:2], torch.zeros(shape)) for i in (0, 2, 4)]
    return {name: value for layer in layers for name, value in layer.items()}


def write_clip_l(path: Path, layers: int = 12, width: int = 768, tokens: int = 49408) -> None:
    """A random text encoder of SD 1.5's size; its layers share their numbers, which saves a second."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, scale: float) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).half()

    layer = {}
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        layer[f"self_attn.{name}.weight"] = random(width, width, scale=width**-0.5)
        layer[f"self_attn.{name}.bias"] = random(width, scale=0.1)
    layer["mlp.fc1.weight"] = random(4 * width, width, scale=width**-0.5)
    layer["mlp.fc2.weight"] = random(width, 4 * width, scale=0.5 * width**-0.5)
    layer["mlp.fc1.bias"], layer["mlp.fc2.bias"] = random(4 * width, scale=0.1), random(width, scale=0.1)
    for name in ("layer_norm1", "layer_norm2"):
        layer[f"{name}.weight"], layer[f"{name}.bias"] = (
            1 + random(width, scale=0.1),
            random(width, scale=0.1),
        )
    weights = {
        f"text_model.encoder.layers.{i}.{name}": value.clone()  # safetensors refuses shared memory
        for i in range(layers)
        for name, value in layer.items()
    }
    weights["text_model.embeddings.token_embedding.weight"] = random(tokens, width, scale=0.5)
    weights["text_model.embeddings.position_embedding.weight"] = random(77, width, scale=0.5)
    weights["text_model.final_layer_norm.weight"] = 1 + random(width, scale=0.1)
    weights["text_model.final_layer_norm.bias"] = random(width, scale=0.1)
    weights["text_projection.weight"] = torch.eye(width, dtype=torch.float16)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
