"""The blocks of an SD 1.5 UNet as functions over diffusers' modules.

Shapes: pictures of cells are (N, C, h, w), one per frame; tokens (N, L, C) with L = h w; attention heads
(N, H, L, D). A weight is touched only by calling the module that holds it, so that a host may stream or cast
the weights of single layers.

Without gradients a result is written over the newest temporary: `residual` adds in place there, never to its
input. Origin of the layers: facts a.1 to a.4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from .joint_attention import attend, attend_with_shared

POSITION_BASE = 10000.0  # of the motion modules' sinusoidal table


class KeyValue(NamedTuple):
    """Projected keys and values that all frames of a clip look at."""

    k: Tensor  # (clips, H, L, D)
    v: Tensor


def resnet_block(
    module: nn.Module,  # diffusers' ResnetBlock2D
    x: Tensor,  # (N, C, h, w)
    time: Tensor,  # (1 or N, T) time embedding after SiLU
) -> Tensor:
    """norm, SiLU, convolution, + time, norm, SiLU, convolution, + input."""
    y = module.conv1(silu(module.norm1(x)))
    y = residual(y, module.time_emb_proj(time)[:, :, None, None])
    y = module.conv2(silu(module.norm2(y)))
    return residual(y, x if module.conv_shortcut is None else module.conv_shortcut(x))


def spatial_transformer(
    module: nn.Module,  # diffusers' Transformer2DModel of one block
    x: Tensor,  # (N, C, h, w)
    text: KeyValue | None,  # None for a block without cross-attention
    reference: KeyValue | None = None,  # the portrait's tokens, seen beside the frame's own
) -> Tensor:
    """Self-attention within each picture (and to the reference), attention to the text, feed-forward."""
    block = module.transformer_blocks[0]
    y = cells_to_tokens(module.proj_in(module.norm(x)))
    y = residual(self_attention(block.attn1, block.norm1(y), reference), y)
    if text is not None:
        y = residual(cross_attention(block.attn2, block.norm2(y), text), y)
    y = residual(block.ff(block.norm3(y)), y)
    return residual(module.proj_out(tokens_to_cells(y, *x.shape[-2:])), x)


def appearance_tokens(module: nn.Module, x: Tensor) -> Tensor:
    """(N, L, C): what the first norm of a spatial transformer gives, the input of its self-attention."""
    return module.transformer_blocks[0].norm1(cells_to_tokens(module.proj_in(module.norm(x))))


def motion_transformer(
    module: nn.Module,  # diffusers' AnimateDiffTransformer3D
    cells: Tensor,  # (N, C, h, w) normalised input of all frames, clip by clip; any part of the picture
    positions: Tensor,  # (F, C)
) -> Tensor:  # (N, C, h, w), to be added to the module's input
    """Two attentions over the frames of each cell, then a feed-forward.

    Positions are added after the norm, so they reach queries, keys and values (facts a.3).
    """
    block = module.transformer_blocks[0]
    frames, height = positions.shape[0], cells.shape[2]
    y = module.proj_in(rearrange(cells, "(b f) c h w -> (b h w) f c", f=frames))
    for norm, attention in ((block.norm1, block.attn1), (block.norm2, block.attn2)):
        y = residual(self_attention(attention, residual(norm(y), positions)), y)
    y = residual(block.ff(block.norm3(y)), y)
    return rearrange(module.proj_out(y), "(b h w) f c -> (b f) c h w", f=frames, h=height, w=cells.shape[3])


def self_attention(attention: nn.Module, x: Tensor, shared: KeyValue | None = None) -> Tensor:
    """Each row of x (N, L, C) attends to itself and, where given, to the clip's shared keys."""
    q, k, v = (_heads(to(x), attention.heads) for to in (attention.to_q, attention.to_k, attention.to_v))
    out = attend(q, k, v) if shared is None else attend_with_shared(q, k, v, *shared)
    return attention.to_out[0](_merge_heads(out))


def cross_attention(attention: nn.Module, x: Tensor, to: KeyValue) -> Tensor:
    """Each row of x (N, L, C) attends to its clip's keys alone; a clip's rows form one list of queries."""
    q = attention.to_q(x.reshape(to.k.shape[0], -1, x.shape[-1]))
    out = _merge_heads(attend(_heads(q, attention.heads), *to))
    return attention.to_out[0](out).view(x.shape)


def project_keys(attention: nn.Module, tokens: Tensor) -> KeyValue:
    """Keys and values of tokens (clips, L, C) that do not change between steps."""
    return KeyValue(*(_heads(to(tokens), attention.heads) for to in (attention.to_k, attention.to_v)))


def frame_positions(frames: int, channels: int, device: torch.device | None = None) -> Tensor:
    """(frames, channels) float32: sin on even channels, cos on odd ones, by place within the window."""
    rates = torch.exp(torch.arange(0, channels, 2, device=device) * (-math.log(POSITION_BASE) / channels))
    angles = torch.arange(frames, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def cells_to_tokens(x: Tensor) -> Tensor:
    return rearrange(x, "n c h w -> n (h w) c")


def tokens_to_cells(tokens: Tensor, height: int, width: int) -> Tensor:
    cells = rearrange(tokens, "n (h w) c -> n c h w", h=height, w=width)
    # The view is channels-last, which convolutions in half precision like and those in float32 do not.
    return cells.contiguous() if cells.dtype == torch.float32 else cells


def residual(update: Tensor, x: Tensor) -> Tensor:
    """update + x, in the memory of `update` (a fresh temporary) where no gradient needs it."""
    return update + x if torch.is_grad_enabled() else update.add_(x)


def silu(x: Tensor) -> Tensor:
    """SiLU over its input (a fresh temporary) where no gradient needs it."""
    return functional.silu(x, inplace=not torch.is_grad_enabled())


def _heads(x: Tensor, heads: int) -> Tensor:
    return rearrange(x, "n l (h d) -> n h l d", h=heads)


def _merge_heads(x: Tensor) -> Tensor:
    return rearrange(x, "n h l d -> n l (h d)")
