"""Sizes of the networks. `SD15` is the released model; other sizes come from a file's metadata."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

SD15_LATENT_SCALE = 0.18215  # 1 / std of the SD 1.5 VAE's latents
GUIDANCE_MAPS = ("depth", "normal", "render")


@dataclass(frozen=True)
class UNetConfig:
    """The UNet that AppearanceNet and the Denoising UNet share; motion modules belong to the latter."""

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)  # finest level first
    layers_per_block: int = 2
    latent_channels: int = 4
    text_dim: int = 768
    heads: int = 8
    norm_groups: int = 32
    motion_heads: int = 8
    max_frames: int = 32  # length of the motion modules' positional table

    def __post_init__(self):
        for channels in self.block_out_channels:
            if channels % self.heads or channels % self.motion_heads or channels % self.norm_groups:
                raise ValueError(
                    f"block_out_channels has {channels}, which does not split into {self.heads} heads, "
                    f"{self.motion_heads} motion heads and {self.norm_groups} norm groups"
                )

    @property
    def downscale(self) -> int:
        """Latent height and width must be multiples of this."""
        return 2 ** (len(self.block_out_channels) - 1)


@dataclass(frozen=True)
class GuidanceEncoderConfig:
    """One Geometric Guidance Encoder (GGE): convolutions, one attention block, an output convolution."""

    block_out_channels: tuple[int, ...] = (16, 32, 96, 256)  # each level after the first halves the picture
    heads: int = 8
    norm_groups: int = 32
    input_channels: int = 3

    @property
    def downscale(self) -> int:
        """Pixels of a map per feature cell."""
        return 2 ** (len(self.block_out_channels) - 1)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that the networks' sizes depend on; stored as JSON in converted files."""

    name: str = "sd15"
    unet: UNetConfig = field(default_factory=UNetConfig)
    guidance: GuidanceEncoderConfig = field(default_factory=GuidanceEncoderConfig)
    maps: tuple[str, ...] = GUIDANCE_MAPS
    latent_scale: float = SD15_LATENT_SCALE
    window: int = 12  # frames the motion modules were trained with

    def __post_init__(self):
        unknown = set(self.maps) - set(GUIDANCE_MAPS)
        if unknown or not self.maps:
            raise ValueError(f"maps={self.maps}; expected some of {', '.join(GUIDANCE_MAPS)}")
        if not 1 <= self.window <= self.unet.max_frames:
            raise ValueError(f"window={self.window}; expected 1 to {self.unet.max_frames} frames")

    @property
    def pixels_per_cell(self) -> int:
        """Pixels of the picture per latent cell: the VAE's factor, which the GGEs share."""
        return self.guidance.downscale

    @property
    def pixel_multiple(self) -> int:
        """Picture height and width must be multiples of this (64 for SD 1.5)."""
        return self.pixels_per_cell * self.unet.downscale

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ModelConfig:
        """The inverse of to_json(); unknown names raise TypeError, they come from a newer version."""
        unet, guidance = values.get("unet", {}), values.get("guidance", {})
        rest = {k: v for k, v in values.items() if k not in ("unet", "guidance")}
        return cls(
            unet=UNetConfig(**_with_tuples(unet)),
            guidance=GuidanceEncoderConfig(**_with_tuples(guidance)),
            **_with_tuples(rest),
        )


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


SD15 = ModelConfig()
