"""A model as the built-in one is made, at a size that trains in seconds."""

from __future__ import annotations

from magicportrait_core.models.config import GuidanceEncoderConfig, ModelConfig, UNetConfig, WarpPriorConfig

SIDE = 64
TINY = ModelConfig(
    name="tiny",
    unet=UNetConfig(
        block_out_channels=(16, 32),
        layers_per_block=1,
        latent_channels=48,
        text_dim=16,
        heads=2,
        norm_groups=8,
        motion_heads=2,
        attention=(False, True),
    ),
    guidance=GuidanceEncoderConfig(
        block_out_channels=(16,), heads=2, norm_groups=8, patch=4, attention=False
    ),
    maps=("depth", "normal", "warp", "portrait", "sources"),
    latent_scale=1.0,
    window=4,
    prior=WarpPriorConfig(),
    autoencoder="unshuffle",
    side=SIDE,
    noise_scale=0.0,
    steps=1,
    guidance_scale=1.0,
)
