"""Names of the released files' tensors -> names of our networks' tensors, as tables.

The UNets of the release carry the names of diffusers' SD 1.5 UNet; only the motion modules (AnimateDiff) are
named otherwise. Every tensor that is stored but never read is listed with the reason; any other surplus name
is refused. Origin: facts c (key sets of the released classes at SD 1.5 size).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor

from ..models.config import MAPS

POSITIONS = "*.pos_encoder.pe"  # sinusoidal tables of the motion modules


@dataclass(frozen=True)
class KeyMap:
    """How the names of one released network become ours."""

    renames: tuple[tuple[str, str], ...] = ()  # part of a released name -> ours, applied in this order
    unused: tuple[tuple[str, str], ...] = ()  # pattern of released names -> why nothing reads them

    def name(self, released: str) -> str | None:
        """Our name of the tensor; None for one that nothing reads."""
        if any(fnmatchcase(released, pattern) for pattern, _ in self.unused):
            return None
        for part, ours in self.renames:
            released = released.replace(part, ours)
        return released

    def names(self, released: Iterable[str]) -> dict[str, str]:
        """Our name -> the released one, without the unused."""
        pairs = ((self.name(name), name) for name in released)
        return {ours: name for ours, name in pairs if ours is not None}

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A released state dict under our names, without the unused tensors."""
        return {ours: state[name] for ours, name in self.names(state).items()}


DENOISING_UNET = KeyMap(
    renames=(
        ("temporal_transformer.", ""),
        ("attention_blocks.0.", "attn1."),
        ("attention_blocks.1.", "attn2."),
        (".norms.0.", ".norm1."),
        (".norms.1.", ".norm2."),
        (".ff_norm.", ".norm3."),
    ),
    unused=((POSITIONS, "a constant, which the network computes; the stored one is compared with it"),),
)

_HEAD = "output head; the network is read at its attention blocks"
_AFTER_LAST_TOKENS = "lies behind the last norm1, whose output is the last that is read from this network"
_LAST_BLOCK = "up_blocks.3.attentions.2."
APPEARANCE_NET = KeyMap(
    unused=(
        ("conv_norm_out.*", _HEAD),
        ("conv_out.*", _HEAD),
        *(
            (f"{_LAST_BLOCK}transformer_blocks.0.{part}.*", _AFTER_LAST_TOKENS)
            for part in ("attn1", "norm2", "attn2", "norm3", "ff")
        ),
        (f"{_LAST_BLOCK}proj_out.*", _AFTER_LAST_TOKENS),
    ),
)

_NOT_CALLED = "built and stored, but its forward is never called"
GUIDANCE_ENCODER = KeyMap(
    unused=(
        *((f"attentions.{level}.*", _NOT_CALLED) for level in range(5)),
        ("guidance_attention.*", _NOT_CALLED),
    ),
)

KEY_MAPS = {  # by the role of the network
    "denoising_unet": DENOISING_UNET,
    "appearance_net": APPEARANCE_NET,
    **{f"guidance_encoder_{name}": GUIDANCE_ENCODER for name in MAPS},
}
