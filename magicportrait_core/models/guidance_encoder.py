"""Geometric Guidance Encoders (GGE): rendered maps of a head -> features for the Denoising UNet."""

from __future__ import annotations

import math

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional

from .config import GuidanceEncoderConfig, ModelConfig
from .unet_blocks import silu, spatial_transformer


class GeometricGuidanceEncoder(nn.Module):
    """Encoder of one kind of map (facts a.1). Tensor names are the released ones of the layers that are used.

    The output convolution starts at zero: an untrained encoder leaves the Denoising UNet as it is.
    """

    def __init__(self, config: GuidanceEncoderConfig, output_channels: int):
        super().__init__()
        self.config = config
        channels = config.block_out_channels
        self.conv_in = nn.Conv2d(config.input_channels * config.patch**2, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for width, wider in zip(channels, channels[1:], strict=False):
            self.blocks.append(nn.Conv2d(width, width, 3, padding=1))
            self.blocks.append(nn.Conv2d(width, wider, 3, padding=1, stride=2))
        # The released file has one behind every convolution and uses the last.
        last = str(len(self.blocks) - 1)
        self.attentions = nn.ModuleDict({last: _transformer(config)} if config.attention else {})
        self.conv_out = nn.Conv2d(channels[-1], output_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (F, 3, H, W) in [0, 1] -> features (F, E, h, w); frames are independent."""
        self._check(maps)
        x = maps if self.config.patch == 1 else patch_components(maps, self.config.patch)
        x = silu(self.conv_in(x))
        for block in self.blocks:
            x = silu(block(x))
        for transformer in self.attentions.values():
            x = spatial_transformer(transformer, x, text=None)
        return self.conv_out(x)

    def _check(self, maps: Tensor) -> None:
        channels, downscale = self.config.input_channels, self.config.downscale
        if maps.ndim != 4 or maps.shape[1] != channels:
            raise ValueError(f"guidance maps have shape {tuple(maps.shape)}, expected (F, {channels}, H, W)")
        if maps.shape[2] % downscale or maps.shape[3] % downscale:
            raise ValueError(
                f"guidance maps are {maps.shape[2]} x {maps.shape[3]} pixels, expected multiples of "
                f"{downscale}; render them at the size of the picture"
            )


class GuidanceEncoders(nn.ModuleDict):
    """The encoders of a model, by kind of map; their features are summed (Eq. 2 of the paper)."""

    def __init__(self, config: ModelConfig):
        output_channels = config.unet.block_out_channels[0]
        super().__init__(
            {name: GeometricGuidanceEncoder(config.guidance, output_channels) for name in config.maps}
        )

    def forward(
        self,
        maps: dict[str, Tensor],  # each (F, 3, H, W) in [0, 1]
        strengths: dict[str, float] | None = None,  # 1 (default) is as trained, 0 leaves a map out
    ) -> Tensor:  # (F, E, h, w)
        """Sum of strength x features over the maps of this model; frames are independent."""
        strengths = strengths or {}
        unknown = strengths.keys() - self.keys()
        missing = [name for name in self if name not in maps]
        if unknown or missing:
            kind, names = ("strengths name", unknown) if unknown else ("maps lack", missing)
            raise ValueError(
                f"guidance {kind} {', '.join(sorted(names))}; this model reads {', '.join(self)}"
            )
        shapes = {name: tuple(maps[name].shape) for name in self}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"guidance maps differ in shape: {shapes}; render them together")
        features = None
        for name, encoder in self.items():
            strength = strengths.get(name, 1.0)
            if strength:
                part = encoder(maps[name]) * strength
                features = part if features is None else features + part
        return self._nothing(next(iter(maps.values()))) if features is None else features

    def _nothing(self, maps: Tensor) -> Tensor:
        encoder = next(iter(self.values()))
        size = (side // encoder.config.downscale for side in maps.shape[-2:])
        return maps.new_zeros(len(maps), encoder.conv_out.out_channels, *size)


def patch_components(
    maps: Tensor,  # (N, C, H, W) in [0, 1]
    patch: int,
) -> Tensor:  # (N, C * patch**2, H / patch, W / patch)
    """The cosine components of each patch, scaled to about the same size.

    Pixels side by side would do in principle, but their mean is 7 to 50 times as strong as the detail between
    them, which a network then learns late. The components of pictures fall with frequency as assumed here
    (measured on warped portraits of 128 pixels with patches of 4).
    """
    basis = _cosine_basis(patch, maps.device).to(maps.dtype)
    channels = maps.shape[1]
    return functional.conv2d(maps - 0.5, basis.repeat(channels, 1, 1, 1), stride=patch, groups=channels)


def _cosine_basis(patch: int, device: torch.device) -> Tensor:  # (patch**2, 1, patch, patch)
    """Components by rows of frequencies; orthogonal, those of detail larger."""
    place = torch.arange(patch, device=device)
    rows = torch.cos(math.pi * (place + 0.5) * place[:, None] / patch)
    rows = rows / rows.norm(dim=1, keepdim=True)
    frequency = (place[:, None].square() + place.square()).sqrt()
    strength = torch.where(frequency > 0, 0.15 / frequency.clamp(min=1) ** 1.4, 1.0)
    waves = rows[:, None, :, None] * rows[None, :, None, :]
    return (0.5 * waves / strength[..., None, None]).reshape(patch**2, 1, patch, patch)


def _transformer(config: GuidanceEncoderConfig) -> nn.Module:
    channels = config.block_out_channels[-1]
    return Transformer2DModel(
        num_attention_heads=config.heads,
        attention_head_dim=channels // config.heads,
        in_channels=channels,
        norm_num_groups=config.norm_groups,
    )
