"""Names of the released files' tensors -> names of our networks' tensors, as tables.

The UNets of the release carry the names of diffusers' SD 1.5 UNet; only the motion modules (AnimateDiff) are
named otherwise. Every tensor that the released code stores but never reads is listed with the reason; any
other surplus name is refused. Origin: facts c (key sets of the released classes at SD 1.5 size).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

POSITIONS = "pos_embed.pe"  # end of the name of a motion module's positional table; a constant, not a weight


@dataclass(frozen=True)
class KeyMap:
    """How the names of one released network become ours."""

    renames: tuple[tuple[str, str], ...] = ()  # part of a released name -> ours, applied in this order
    unused: tuple[tuple[str, str], ...] = ()  # start of a released name -> why nothing reads it

    def name(self, released: str) -> str | None:
        """Our name of the tensor; None for one that nothing reads."""
        if any(released.startswith(start) for start, _ in self.unused):
            return None
        for part, ours in self.renames:
            released = released.replace(part, ours)
        return released

    def names(self, released: Iterable[str]) -> dict[str, str]:
        """Our name -> the released one, without the unused; of twins (the positional tables) the last."""
        pairs = ((self.name(name), name) for name in released)
        return {ours: name for ours, name in pairs if ours is not None}

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A released state dict under our names, without the unused tensors."""
        return {ours: state[name] for ours, name in self.names(state).items()}


DENOISING_UNET = KeyMap(
    renames=(
        ("temporal_transformer.", ""),
        # Both attentions of a motion module store the same table; diffusers' module has one for the two.
        ("attention_blocks.0.pos_encoder.pe", POSITIONS),
        ("attention_blocks.1.pos_encoder.pe", POSITIONS),
        ("attention_blocks.0.", "attn1."),
        ("attention_blocks.1.", "attn2."),
        (".norms.0.", ".norm1."),
        (".norms.1.", ".norm2."),
        (".ff_norm.", ".norm3."),
    ),
)

_AFTER_LAST_TOKENS = "lies behind the last norm1, whose output is the last that is read from this network"
_LAST_BLOCK = "up_blocks.3.attentions.2."
APPEARANCE_NET = KeyMap(
    unused=(
        ("conv_norm_out.", "output head; the network is read at its attention blocks"),
        ("conv_out.", "output head; the network is read at its attention blocks"),
        *(
            (f"{_LAST_BLOCK}transformer_blocks.0.{part}.", _AFTER_LAST_TOKENS)
            for part in ("attn1", "norm2", "attn2", "norm3", "ff")
        ),
        (f"{_LAST_BLOCK}proj_out.", _AFTER_LAST_TOKENS),
    ),
)

_NOT_CALLED = "built and stored, but its forward is never called"
GUIDANCE_ENCODER = KeyMap(
    unused=(
        *((f"attentions.{level}.", _NOT_CALLED) for level in range(5)),
        ("guidance_attention.", _NOT_CALLED),
    ),
)


def position_table(
    length: int,  # frames
    channels: int,
) -> Tensor:  # (1, length, channels)
    """The sinusoidal table of the motion modules: sin on even channels, cos on odd ones, base 10000."""
    frames = torch.arange(length).unsqueeze(1)
    rates = torch.exp(torch.arange(0, channels, 2) * (-math.log(10000.0) / channels))
    table = torch.zeros(1, length, channels)
    table[0, :, 0::2] = torch.sin(frames * rates)
    table[0, :, 1::2] = torch.cos(frames * rates)
    return table
