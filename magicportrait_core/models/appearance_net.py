"""AppearanceNet: what the portrait looks like, as tokens for the Denoising UNet's transformers."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from .config import UNetConfig
from .unet import CROSS, UNet, UNetPass
from .unet_blocks import appearance_tokens, project_keys, spatial_transformer

AppearanceTokens = dict[str, Tensor]  # path of a transformer block -> (B, L, C) after its norm1
TIMESTEP = 0  # the portrait is clean


class AppearanceNet(UNet):
    """An SD 1.5 UNet read at its transformer blocks (released `reference_unet`, facts a.2).

    What lies behind the last tokens (output head, the rest of the last transformer) does not exist here:
    no training signal reaches it. Tensor names are those of diffusers' UNet2DConditionModel.
    """

    def __init__(self, config: UNetConfig):
        attention = config.attention_levels
        super().__init__(
            config,
            UNet2DConditionModel(
                in_channels=config.latent_channels,
                block_out_channels=config.block_out_channels,
                layers_per_block=config.layers_per_block,
                down_block_types=[f"{CROSS * a}DownBlock2D" for a in attention],
                up_block_types=[f"{CROSS * a}UpBlock2D" for a in reversed(attention)],
                norm_num_groups=config.norm_groups,
                cross_attention_dim=config.text_dim,
                attention_head_dim=config.heads,  # diffusers' name for the number of heads
            ),
        )
        self.conv_norm_out = self.conv_out = None
        *_, (self.last_path, last) = self.transformers()
        last.proj_out = None
        for name in ("attn1", "norm2", "attn2", "norm3", "ff"):
            setattr(last.transformer_blocks[0], name, None)
        self._end_with(self.last_path)

    def _end_with(self, path: str) -> None:
        """Drop the levels above the last tokens, which a UNet without attention at its finest levels has."""
        place, index, *_ = path.split(".")
        kept = int(index) + 1 if place == "up_blocks" else 0
        if kept < len(self.up_blocks):
            self.up_blocks = self.up_blocks[:kept]
            if kept:
                self.up_blocks[-1].upsamplers = None

    def forward(
        self,
        latents: Tensor,  # (B, C, h, w) of the portrait, in the network's scale
        text: Tensor,  # (B or 1, N, D)
    ) -> AppearanceTokens:
        """Tokens (B, h w / 4**level, C) of every spatial transformer, by the path of its block."""
        self.check_latents(latents, "B C h w")
        self.check_text(text, len(latents))
        walk = _AppearancePass(self, self.embed_time(TIMESTEP, like=latents), text.to(latents.dtype))
        walk.run(self.conv_in(latents))
        return walk.tokens


class _AppearancePass(UNetPass):
    def __init__(self, net: AppearanceNet, time: Tensor, text: Tensor):
        super().__init__(net, time)
        self.text = text
        self.tokens: AppearanceTokens = {}

    def transformer(self, path: str, module: nn.Module, x: Tensor) -> Tensor:
        self.tokens[path] = appearance_tokens(module, x)
        if path == self.net.last_path:
            return x
        return self.checkpointed(
            lambda: spatial_transformer(
                module, x, project_keys(module.transformer_blocks[0].attn2, self.text)
            )
        )
