"""Sizes of the networks. `SD15` is the released model; other sizes come from a file's metadata."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

SD15_LATENT_SCALE = 0.18215  # 1 / std of the SD 1.5 VAE's latents
GUIDANCE_MAPS = ("depth", "normal", "render")  # of the head, what the released model reads
WARP_MAPS = ("warp", "portrait", "sources")  # of the flow warp: its picture, the still portrait, its sources
MAPS = GUIDANCE_MAPS + WARP_MAPS
TRAINED_SIDE = 512  # pixels; the released networks saw 512x512 pictures only


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
    attention: tuple[bool, ...] | None = None  # levels with attention; None: all but the coarsest, as SD 1.5

    def __post_init__(self):
        if self.attention is not None and len(self.attention) != len(self.block_out_channels):
            raise ValueError(
                f"attention has {len(self.attention)} levels, block_out_channels has "
                f"{len(self.block_out_channels)}"
            )
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

    @property
    def attention_levels(self) -> tuple[bool, ...]:
        """Whether each level has spatial transformers, finest level first."""
        levels = len(self.block_out_channels)
        return (True,) * (levels - 1) + (False,) if self.attention is None else self.attention


@dataclass(frozen=True)
class GuidanceEncoderConfig:
    """One Geometric Guidance Encoder (GGE): convolutions, one attention block, an output convolution."""

    block_out_channels: tuple[int, ...] = (16, 32, 96, 256)  # each level after the first halves the picture
    heads: int = 8
    norm_groups: int = 32
    input_channels: int = 3
    patch: int = 1  # pixels a side that are put side by side in channels before the first convolution
    attention: bool = True  # whether it has its attention block

    @property
    def downscale(self) -> int:
        """Pixels of a map per feature cell."""
        return self.patch * 2 ** (len(self.block_out_channels) - 1)


@dataclass(frozen=True)
class WarpPriorConfig:
    """What a warp-preconditioned model knows before its networks speak: a clean latent lies around the warped
    portrait with a standard deviation (picture values in [-1, 1]) that depends on what the warp shows there.

    Measured residuals of the flow warp, facts/SMALL_MODEL.md 5.
    """

    photo: float = 0.15  # skin that the photo shows
    made_up: float = 0.43  # mirrored, stretched or filled skin
    mouth: float = 0.32
    near: float = 0.33  # beside the head, up to `near_cells`
    around: float = 0.17  # further out, up to `around_cells`
    far: float = 0.09
    near_cells: int = 2
    around_cells: int = 5
    noise: float = 0.02  # standard deviation of the noise it reckons with, diffusion/preconditioning.py


@dataclass(frozen=True)
class ModelConfig:
    """Everything that the networks' sizes depend on; stored as JSON in converted files."""

    name: str = "sd15"
    unet: UNetConfig = field(default_factory=UNetConfig)
    guidance: GuidanceEncoderConfig = field(default_factory=GuidanceEncoderConfig)
    maps: tuple[str, ...] = GUIDANCE_MAPS
    latent_scale: float = SD15_LATENT_SCALE
    window: int = 12  # frames the motion modules were trained with
    prior: WarpPriorConfig | None = None  # None: plain v-prediction, as released
    autoencoder: Literal["vae", "unshuffle"] = "vae"  # unshuffle: cells hold the pixels themselves
    side: int = TRAINED_SIDE  # pixels, the usual shorter side to sample at
    noise_scale: float = 1.0  # standard deviation of the noise that sampling starts from; 0: without noise
    steps: int = 20  # usual number of denoising steps
    guidance_scale: float = 3.5  # usual classifier-free guidance; 1 is off

    def __post_init__(self):
        unknown = set(self.maps) - set(MAPS)
        if unknown or not self.maps:
            raise ValueError(f"maps={self.maps}; expected some of {', '.join(MAPS)}")
        cell = 3 * self.pixels_per_cell**2
        if self.autoencoder == "unshuffle" and self.unet.latent_channels != cell:
            raise ValueError(
                f"latent_channels={self.unet.latent_channels}; cells of {self.pixels_per_cell}x"
                f"{self.pixels_per_cell} pixels have {cell} values"
            )
        if self.prior is not None and self.autoencoder != "unshuffle":
            raise ValueError(
                f"autoencoder={self.autoencoder!r} with a prior, which is of the pixels; expected 'unshuffle'"
            )
        if not 1 <= self.window <= self.unet.max_frames:
            raise ValueError(f"window={self.window}; expected 1 to {self.unet.max_frames} frames")

    @property
    def reads_warp(self) -> bool:
        """Whether the model needs the flow-warped portrait beside the maps of the head."""
        return self.prior is not None or any(name in WARP_MAPS for name in self.maps)

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
        unet, guidance, prior = (values.get(name) or {} for name in ("unet", "guidance", "prior"))
        rest = {k: v for k, v in values.items() if k not in ("unet", "guidance", "prior")}
        return cls(
            unet=UNetConfig(**_with_tuples(unet)),
            guidance=GuidanceEncoderConfig(**_with_tuples(guidance)),
            prior=WarpPriorConfig(**prior) if prior else None,
            **_with_tuples(rest),
        )


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


SD15 = ModelConfig()
SMALL = ModelConfig(  # built in; facts/SMALL_MODEL.md
    name="small",
    unet=UNetConfig(
        block_out_channels=(64, 112, 160),
        layers_per_block=1,
        latent_channels=48,
        text_dim=16,
        heads=4,
        norm_groups=8,
        motion_heads=4,
        attention=(False, True, True),
    ),
    guidance=GuidanceEncoderConfig(
        block_out_channels=(48,), heads=4, norm_groups=8, patch=4, attention=False
    ),
    maps=("depth", "normal", "warp", "portrait", "sources"),
    latent_scale=1.0,
    prior=WarpPriorConfig(),
    autoencoder="unshuffle",
    side=128,
    noise_scale=0.0,
    steps=1,
    guidance_scale=1.0,
)
CONFIGS = {config.name: config for config in (SD15, SMALL)}
