"""A VAE in the format of Stable Diffusion's single files: its layout, and a small one with random weights."""

from __future__ import annotations

import torch
from torch import Tensor


def sd_layout(channels: tuple[int, ...] = (128, 256, 512, 512), latents: int = 4) -> dict[str, Tensor]:
    """The tensors of a VAE in SD's format, as the architecture is described in the latent diffusion paper's
    configuration: two blocks a level in the encoder, three in the decoder, one attention in the middle."""
    shapes = {}

    def layer(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    def block(name: str, inner: int, out: int) -> None:
        layer(f"{name}.norm1", inner)
        layer(f"{name}.conv1", out, inner, 3, 3)
        layer(f"{name}.norm2", out)
        layer(f"{name}.conv2", out, out, 3, 3)
        if inner != out:
            layer(f"{name}.nin_shortcut", out, inner, 1, 1)

    def middle(name: str, width: int) -> None:
        block(f"{name}.mid.block_1", width, width)
        layer(f"{name}.mid.attn_1.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            layer(f"{name}.mid.attn_1.{part}", width, width, 1, 1)
        block(f"{name}.mid.block_2", width, width)

    top, width = len(channels) - 1, channels[0]
    layer("encoder.conv_in", width, 3, 3, 3)
    for level, out in enumerate(channels):
        for i in range(2):
            block(f"encoder.down.{level}.block.{i}", width, out)
            width = out
        if level < top:
            layer(f"encoder.down.{level}.downsample.conv", out, out, 3, 3)
    middle("encoder", width)
    layer("encoder.norm_out", width)
    layer("encoder.conv_out", 2 * latents, width, 3, 3)
    layer("decoder.conv_in", width, latents, 3, 3)
    middle("decoder", width)
    for level in range(top, -1, -1):
        for i in range(3):
            block(f"decoder.up.{level}.block.{i}", width, channels[level])
            width = channels[level]
        if level:
            layer(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    layer("decoder.norm_out", width)
    layer("decoder.conv_out", 3, width, 3, 3)
    layer("quant_conv", 2 * latents, 2 * latents, 1, 1)
    layer("post_quant_conv", latents, latents, 1, 1)
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def random_vae() -> dict[str, Tensor]:
    """A small VAE in SD's format with random weights."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, value in sd_layout((32, 32, 32, 32)).items():
        noise = torch.randn(value.shape, generator=generator)
        scale = noise / value[0].numel() ** 0.5 if value.ndim > 1 else 0.1 * noise
        weights[name] = scale + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return weights
