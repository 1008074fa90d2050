"""Latents that hold the pixels themselves: what small models have in place of a VAE."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional


class PixelUnshuffle:
    """Pictures in [-1, 1] <-> latents whose cells hold their pixels' values, channel after channel: exact in
    both directions. Used as an Autoencoder is."""

    def __init__(self, pixels_per_cell: int):
        self.pixels_per_cell = pixels_per_cell
        self.vae = nn.Identity()  # without weights: it is wherever its inputs are
        self.name = f"unshuffled pixels of {pixels_per_cell}x{pixels_per_cell}"  # for messages

    @property
    def latent_channels(self) -> int:
        return 3 * self.pixels_per_cell**2

    @property
    def fingerprint(self) -> str:
        return f"unshuffle {self.pixels_per_cell}"

    def to(self, *_: object, **__: object) -> PixelUnshuffle:
        """There is nothing to move."""
        return self

    @torch.no_grad()
    def encode(
        self,
        pictures: Tensor,  # (F, 3, H, W) in [-1, 1]
    ) -> Tensor:  # (F, C, h, w) float32, on the pictures' device
        """Raises ValueError for pictures that do not split into cells."""
        if pictures.shape[-2] % self.pixels_per_cell or pictures.shape[-1] % self.pixels_per_cell:
            raise ValueError(
                f"pictures of {pictures.shape[-1]}x{pictures.shape[-2]} pixels do not split into cells of "
                f"{self.pixels_per_cell}x{self.pixels_per_cell}; resize them to the working size"
            )
        return functional.pixel_unshuffle(pictures.float(), self.pixels_per_cell)

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,  # (F, C, h, w)
    ) -> Iterator[Tensor]:  # (3, H, W) float32 in [-1, 1] each, on the CPU
        for latent in latents:
            yield functional.pixel_shuffle(latent.float(), self.pixels_per_cell).clamp(-1, 1).cpu()
