"""The Denoising UNet: SD 1.5 per frame, motion modules across frames, the portrait in its self-attentions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import UNetMotionModel
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from .config import UNetConfig
from .unet import CROSS, TOKENS_AT_ONCE, UNet, UNetPass, rows
from .unet_blocks import (
    KeyValue,
    frame_positions,
    motion_transformer,
    project_keys,
    residual,
    spatial_transformer,
)


@dataclass(frozen=True)
class ClipConditioning:
    """Keys and values of the prompt and of the portrait, by path of the transformer block.

    They stay the same for all steps and windows of a clip. One row serves every window; several rows are
    several clips, one for each row of the latents (training).
    """

    text: dict[str, KeyValue]
    reference: dict[str, KeyValue] | None  # None: there is no portrait

    @property
    def clips(self) -> int:
        """Rows; 1 serves any number of windows."""
        values = [*self.text.values(), *(self.reference or {}).values()]
        return max(len(value.k) for value in values)

    def at(self, order: list[int]) -> ClipConditioning:
        """The rows in another order."""

        def pick(values: dict[str, KeyValue]) -> dict[str, KeyValue]:
            return {
                path: KeyValue(*(x if len(x) == 1 else x[order] for x in kv)) for path, kv in values.items()
            }

        return ClipConditioning(pick(self.text), self.reference and pick(self.reference))


class DenoisingUNet(UNet):
    """Released `denoising_unet` with its motion modules (facts a.3, a.4).

    Tensor names are those of diffusers' UNetMotionModel, but the motion modules' tables of positions, which
    are computed. Unlike diffusers' forward, motion modules normalise each frame by itself, guidance is added
    behind conv_in, and self-attentions also look at the portrait's tokens.
    """

    def __init__(self, config: UNetConfig):
        attention = config.attention_levels
        super().__init__(
            config,
            UNetMotionModel(
                in_channels=config.latent_channels,
                out_channels=config.latent_channels,
                block_out_channels=config.block_out_channels,
                layers_per_block=config.layers_per_block,
                down_block_types=[f"{CROSS * a}DownBlockMotion" for a in attention],
                up_block_types=[f"{CROSS * a}UpBlockMotion" for a in reversed(attention)],
                norm_num_groups=config.norm_groups,
                cross_attention_dim=config.text_dim,
                num_attention_heads=config.heads,
                motion_num_attention_heads=config.motion_heads,
                motion_max_seq_length=config.max_frames,
                use_motion_mid_block=True,
            ),
        )
        for module in self.motion_modules():
            module.transformer_blocks[0].pos_embed = None
            nn.init.zeros_(module.proj_out.weight)  # training starts from the network of single frames
            nn.init.zeros_(module.proj_out.bias)

    def motion_modules(self) -> list[nn.Module]:
        """All of them; their parameters are what the second phase of training changes."""
        blocks = [*self.down_blocks, self.mid_block, *self.up_blocks]
        return [module for block in blocks for module in block.motion_modules]

    def condition(
        self,
        appearance: dict[str, Tensor] | None,  # AppearanceTokens of 1 or B portraits; None: no portrait
        text: Tensor,  # (1 or B, N, D)
        round_to: torch.dtype | None = None,
    ) -> ClipConditioning:
        """Project the portrait's tokens and the prompt once for all steps and windows.

        round_to=torch.float16 rounds the tokens as the released pipeline does (facts a.4).
        """
        clips = len(next(iter(appearance.values()))) if appearance else 1
        self.check_text(text, clips if clips > 1 else len(text))
        blocks = {path: module.transformer_blocks[0] for path, module in self.transformers()}
        text = text.to(self.dtype)
        prompt = {path: project_keys(block.attn2, text) for path, block in blocks.items()}
        if appearance is None:
            return ClipConditioning(prompt, None)
        if appearance.keys() != blocks.keys():
            odd = sorted(appearance.keys() ^ blocks.keys())
            raise ValueError(
                f"the appearance tokens are of {len(appearance)} layers, this Denoising UNet has "
                f"{len(blocks)} ({odd[0]} is in one alone); take both networks from the same model folder"
            )
        reference = {}
        for path, block in blocks.items():
            tokens = appearance[path] if round_to is None else appearance[path].to(round_to)
            reference[path] = project_keys(block.attn1, tokens.to(self.dtype))
        return ClipConditioning(prompt, reference)

    def forward(
        self,
        latents: Tensor,  # (B, C, W, h, w) windows of W frames, in the network's scale
        timestep: int | Tensor,  # one for all windows or (B,)
        conditioning: ClipConditioning,  # of one clip, or of B
        guidance: Tensor | None = None,  # (B, E, W, h, w) summed features of the guidance encoders
        reads_reference: Tensor | None = None,  # (B,) bool: windows that see the portrait; None: all
        motion: bool = True,  # False: frames are single pictures, as in the first phase of training
    ) -> Tensor:
        """v-prediction (B, C, W, h, w)."""
        reads = [True] * len(latents) if reads_reference is None else reads_reference.tolist()
        if len(reads) != len(latents):
            raise ValueError(f"reads_reference has {len(reads)} entries for {len(latents)} windows")
        order = sorted(range(len(reads)), key=reads.__getitem__)  # those that do not read come first
        silent = reads.count(False)
        if order == list(range(len(reads))):
            return self._predict(latents, timestep, conditioning, guidance, silent, len(latents), motion)
        if isinstance(timestep, Tensor) and timestep.numel() > 1:
            timestep = timestep[order]
        guidance = None if guidance is None else guidance[order]
        conditioning = conditioning.at(order)
        out = self._predict(latents[order], timestep, conditioning, guidance, silent, len(latents), motion)
        return out[[order.index(i) for i in range(len(order))]]

    def forward_pair(
        self,
        latents: Tensor,  # (B, C, W, h, w)
        timestep: int | Tensor,
        conditioning: ClipConditioning,
        guidance: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(unconditional, conditional) v-predictions for classifier-free guidance, each (B, C, W, h, w).

        The unconditional one does not see the portrait; text and guidance are the same (facts a.4). What lies
        before the first self-attention is computed once for both.
        """
        both = self._predict(latents, timestep, conditioning, guidance, len(latents), 2 * len(latents))
        return both[: len(latents)], both[len(latents) :]

    def _predict(
        self,
        latents: Tensor,
        timestep: int | Tensor,
        conditioning: ClipConditioning,
        guidance: Tensor | None,
        silent: int,  # leading windows of the result that do not see the portrait
        windows: int,  # of the result: those of the latents, or twice as many
        motion: bool = True,
    ) -> Tensor:
        self._check(latents, timestep, conditioning, guidance, reads=silent < windows)
        frames = latents.shape[2]
        time = self.embed_time(timestep, like=latents)
        time = time if len(time) == 1 else time.repeat_interleave(frames, dim=0)
        walk = _DenoisingPass(self, time, conditioning, frames, silent * frames, windows * frames, motion)
        x = self.conv_in(rearrange(latents, "b c f h w -> (b f) c h w"))
        if guidance is not None:
            x = residual(x, rearrange(guidance, "b c f h w -> (b f) c h w"))
        x = walk.run(x)
        x = walk.in_slices(lambda x: self.conv_out(functional.silu(self.conv_norm_out(x))), x)
        return rearrange(x, "(b f) c h w -> b c f h w", f=frames)

    def _check(self, latents, timestep, conditioning, guidance, reads: bool) -> None:
        self.check_latents(latents, "B C W h w")
        batch, _, frames, *size = latents.shape
        if frames > self.config.max_frames:
            raise ValueError(
                f"a window has {frames} frames, the motion modules know 1 to {self.config.max_frames}; "
                "choose a smaller window"
            )
        expected = (batch, self.config.block_out_channels[0], frames, *size)
        if guidance is not None and guidance.shape != expected:
            raise ValueError(
                f"the guidance has shape {tuple(guidance.shape)}, expected {expected} to fit the latents; "
                "encode maps of the same frames and size with the guidance encoders of this model"
            )
        if conditioning.clips not in (1, batch):
            raise ValueError(
                f"conditioning of {conditioning.clips} clips for {batch} windows; expected 1 or {batch}"
            )
        if isinstance(timestep, Tensor) and timestep.numel() not in (1, batch):
            raise ValueError(f"{timestep.numel()} timesteps for {batch} windows; expected 1 or {batch}")
        if reads and conditioning.reference is None:
            raise ValueError(
                "no portrait to read: condition() got no appearance tokens; pass AppearanceNet's"
            )


class _DenoisingPass(UNetPass):
    """Rows are frames, window by window; the first `silent` of `total` do not see the portrait.

    The first transformer makes `total` rows of what it gets: until there, both halves of a pair are one.
    """

    def __init__(
        self,
        net: UNet,
        time: Tensor,
        conditioning: ClipConditioning,
        frames: int,
        silent: int,
        total: int,
        motion: bool,
    ):
        super().__init__(net, time)
        self.conditioning = conditioning
        self.frames = frames
        self.total = total
        self.bound = silent
        self.moves = motion
        self.positions: dict[int, Tensor] = {}  # by channels

    def layer(self, place: str, block: nn.Module, index: int, x: Tensor) -> Tensor:
        """The spatial transformer, then the motion module, which every block has behind each resnet."""
        x = super().layer(place, block, index, x)
        return self.motion(block.motion_modules[index], x) if self.moves else x

    def transformer(self, path: str, module: nn.Module, x: Tensor) -> Tensor:
        def part(start: int, stop: int) -> Tensor:
            text = self._clips(self.conditioning.text[path], start, stop)
            reference = None
            if start >= self.bound:
                reference = self._clips(self.conditioning.reference[path], start, stop)
            return spatial_transformer(module, rows(x, start, stop), text, reference)

        whole_windows = self.frames if self.conditioning.clips > 1 else 1
        return self.sliced(part, self.total, x[0, 0].numel(), whole_windows)

    def motion(self, module: nn.Module, x: Tensor) -> Tensor:
        positions = self._positions(x)
        if torch.is_grad_enabled():
            # The first one's input needs no gradient where motion modules alone learn, and torch's CPU kernel
            # for such a group norm crashes (channels last, 2.11).
            x = x if x.requires_grad else x.detach().requires_grad_()
            return self.checkpointed(lambda: motion_transformer(module, module.norm(x), positions) + x)
        cells = module.norm(x)
        step = max(TOKENS_AT_ONCE // (x.shape[0] * x.shape[3]), 1)
        for part, source in zip(cells.split(step, dim=2), x.split(step, dim=2), strict=True):
            part.copy_(motion_transformer(module, part, positions)).add_(source)
        return cells

    def _clips(self, values: KeyValue, start: int, stop: int) -> KeyValue:
        """Keys and values of the clips that frames start to stop belong to."""
        return KeyValue(*(rows(x, start // self.frames, stop // self.frames) for x in values))

    def _positions(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        if channels not in self.positions:
            self.positions[channels] = frame_positions(self.frames, channels, x.device).to(x.dtype)
        return self.positions[channels]
