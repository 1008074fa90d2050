"""The walk through an SD 1.5 UNet that AppearanceNet and the Denoising UNet share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .unet_blocks import resnet_block

if TYPE_CHECKING:
    from .config import UNetConfig

# Frames are independent everywhere but in motion modules, where cells are, so without gradients the work is
# done in slices of about this many tokens. Temporaries (16 times the input in a feed-forward) stay small
# beside the activations that are kept; a slice of 4 frames of 64 x 64 cells still fills a large GPU.
TOKENS_AT_ONCE = 16384
CROSS = "CrossAttn"  # how diffusers' names of blocks with spatial transformers begin


class UNet(nn.Module):
    """The modules of a diffusers UNet under diffusers' names, without its forward and its hooks."""

    def __init__(self, config: UNetConfig, container: nn.Module):
        super().__init__()
        self.config = config
        self.checkpointing = False
        for name, child in container.named_children():
            self.add_module(name, child)

    @property
    def dtype(self) -> torch.dtype:
        return self.conv_in.weight.dtype

    def enable_gradient_checkpointing(self, enable: bool = True) -> None:
        """Training keeps only the input of each block and computes the block again for its gradient."""
        self.checkpointing = enable

    def transformers(self) -> Iterator[tuple[str, nn.Module]]:
        """(path of the inner block, the spatial transformer that holds it), in running order."""
        places = [(f"down_blocks.{i}", block) for i, block in enumerate(self.down_blocks)]
        places.append(("mid_block", self.mid_block))
        places += [(f"up_blocks.{i}", block) for i, block in enumerate(self.up_blocks)]
        for place, block in places:
            for j, transformer in enumerate(_attentions(block)):
                yield f"{place}.attentions.{j}.transformer_blocks.0", transformer

    def embed_time(self, timestep: int | Tensor, like: Tensor) -> Tensor:
        """(1 or B, T) time embedding after SiLU, for resnet_block(); like gives device and dtype."""
        steps = torch.as_tensor(timestep, device=like.device).reshape(-1)
        return functional.silu(self.time_embedding(self.time_proj(steps).to(like.dtype)))

    def check_latents(self, latents: Tensor, axes: str) -> None:
        config = self.config
        if latents.ndim != len(axes.split()) or latents.shape[1] != config.latent_channels:
            raise ValueError(
                f"latents have shape {tuple(latents.shape)}, expected ({axes}) with "
                f"C = {config.latent_channels}; encode with a VAE of the Stable Diffusion 1.5 family"
            )
        height, width = latents.shape[-2:]
        if height % config.downscale or width % config.downscale:
            raise ValueError(
                f"latents are {height} x {width} cells, expected multiples of {config.downscale}; "
                f"choose a picture size whose sides are multiples of {8 * config.downscale} pixels"
            )

    def check_text(self, text: Tensor, batch: int) -> None:
        if text.ndim != 3 or text.shape[-1] != self.config.text_dim:
            raise ValueError(
                f"the text embedding has shape {tuple(text.shape)}, expected (1, N, {self.config.text_dim}); "
                "use a CLIP-L text encoder (Stable Diffusion 1.5), not one of SDXL, SD2 or Flux"
            )
        if len(text) not in (1, batch):
            raise ValueError(f"{len(text)} texts for {batch} portraits; expected 1 or {batch}")


class UNetPass(ABC):
    """What lasts for one pass: the time embedding and how the work is sliced."""

    def __init__(self, net: UNet, time: Tensor):
        self.net = net
        self.time = time  # (1 or N, T) after SiLU
        self.bound = 0  # no slice reaches across this row

    def run(self, x: Tensor) -> Tensor:
        """x is the output of conv_in, (N, C, h, w); returns what conv_norm_out gets."""
        net, skips = self.net, [x]
        for i, block in enumerate(net.down_blocks):
            for j, module in enumerate(block.resnets):
                x = self.layer(f"down_blocks.{i}", block, j, self.resnet(module, x))
                skips.append(x)
            for module in block.downsamplers or ():
                x = self.in_slices(module, x)
                skips.append(x)
        block = net.mid_block
        x = self.layer("mid_block", block, 0, self.resnet(block.resnets[0], x))
        x = self.resnet(block.resnets[1], x)
        for i, block in enumerate(net.up_blocks):
            for j, module in enumerate(block.resnets):
                x = self.layer(f"up_blocks.{i}", block, j, self.resnet(module, x, skips.pop()))
            for module in block.upsamplers or ():
                x = self.in_slices(module, x)
        return x

    def layer(self, place: str, block: nn.Module, index: int, x: Tensor) -> Tensor:
        """What stands behind a resnet (N, C, h, w): the spatial transformer, where the block has one."""
        if attentions := _attentions(block):
            path = f"{place}.attentions.{index}.transformer_blocks.0"
            x = self.transformer(path, attentions[index], x)
        return x

    def resnet(self, module: nn.Module, x: Tensor, skip: Tensor | None = None) -> Tensor:
        def part(start: int, stop: int) -> Tensor:
            cells = rows(x, start, stop)
            if skip is not None:
                cells = torch.cat([cells, rows(skip, start, stop)], dim=1)
            return resnet_block(module, cells, rows(self.time, start, stop))

        return self.sliced(part, x.shape[0], x[0, 0].numel())

    @abstractmethod
    def transformer(self, path: str, module: nn.Module, x: Tensor) -> Tensor:
        """The spatial transformer `module` on x (N, C, h, w); `path` is that of its block of attentions."""

    def in_slices(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """function(x) for a function that treats each frame by itself."""
        return self.sliced(lambda start, stop: function(x[start:stop]), x.shape[0], x[0, 0].numel())

    def sliced(
        self,
        part: Callable[[int, int], Tensor],  # rows start to stop of the result
        total: int,  # rows of the result
        cells: int,  # tokens of one row
        multiple: int = 1,  # a slice holds a multiple of so many rows
    ) -> Tensor:
        """All rows of a result, computed in slices where no gradient is needed."""
        if torch.is_grad_enabled():
            ranges = self._ranges(total, total)
            return self.checkpointed(lambda: _join([part(*r) for r in ranges]))
        ranges = self._ranges(total, max(TOKENS_AT_ONCE // cells // multiple, 1) * multiple)
        first = part(*ranges[0])
        if len(ranges) == 1:
            return first
        out = _room_for(total, first)
        out[: ranges[0][1]] = first
        del first
        for start, stop in ranges[1:]:
            out[start:stop] = part(start, stop)
        return out

    def checkpointed(self, function: Callable[[], Tensor]) -> Tensor:
        if self.net.checkpointing and torch.is_grad_enabled():
            return checkpoint(function, use_reentrant=False, preserve_rng_state=False)  # nothing is random
        return function()

    def _ranges(self, total: int, step: int) -> list[tuple[int, int]]:
        parts = ((0, self.bound), (self.bound, total)) if 0 < self.bound < total else ((0, total),)
        return [(a, min(a + step, stop)) for start, stop in parts for a in range(start, stop, step)]


def rows(x: Tensor, start: int, stop: int) -> Tensor:
    """Rows start to stop of a tensor that repeats: one row serves all, half of them serve both halves."""
    if x.shape[0] == 1:
        return x
    offset = start % x.shape[0]
    return x[offset : offset + stop - start]


def _attentions(block: nn.Module) -> nn.ModuleList | tuple:
    return getattr(block, "attentions", None) or ()


def _room_for(total: int, piece: Tensor) -> Tensor:
    """An empty tensor of so many rows, in the memory layout of a piece of it."""
    channels_last = piece.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (total, *piece.shape[1:])
    return torch.empty(shape, dtype=piece.dtype, device=piece.device, memory_format=layout)


def _join(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
