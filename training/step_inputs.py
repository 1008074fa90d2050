"""A batch as the networks and the objective take it: floating point, latents, the prior of the warp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from magicportrait_core.diffusion.preconditioning import prior_deviation
from magicportrait_core.models.config import ModelConfig
from magicportrait_core.warp.sources import OUTSIDE

from .batch import Batch


class Encoder(Protocol):
    """Pictures (N, 3, H, W) in [-1, 1] -> latents (N, C, h, w) in the autoencoder's own scale."""

    def encode(self, pictures: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Prior:
    """N(mean, deviation^2) of clean latents; see diffusion.preconditioning."""

    mean: Tensor  # (B, C, W, h, w)
    deviation: Tensor  # (B, 1, W, h, w)
    noise: float  # standard deviation of the noise it reckons with


@dataclass(frozen=True)
class StepInputs:
    """B rows of W frames, float32."""

    reference: Tensor  # (B, C, h, w), latents in the networks' scale
    truth: Tensor  # (B, 3, W, H, W) pictures in [-1, 1]
    latents: Tensor  # (B, C, W, h, w) of the truth, in the networks' scale
    maps: dict[str, Tensor]  # (B*W, 3, H, W) in [0, 1]
    head: Tensor  # (B, 1, W, H, W) bool, pixels of the head
    prior: Prior | None

    @property
    def rows(self) -> int:
        return len(self.latents)


def pictures_of(levels: Tensor) -> Tensor:
    """uint8 levels -> [-1, 1] float32."""
    return levels.float() / 127.5 - 1


@torch.no_grad()
def prepare_inputs(
    batch: Batch,
    config: ModelConfig,
    encoder: Encoder | None = None,  # None with models whose cells hold the pixels themselves
) -> StepInputs:
    """What a step computes from; on the batch's device."""
    windows = batch.frames.shape[1]
    frames = pictures_of(rearrange(batch.frames, "b w c y x -> (b w) c y x"))
    maps = {
        name: rearrange(batch.maps[name], "b w c y x -> (b w) c y x").float() / 255 for name in config.maps
    }
    return StepInputs(
        reference=(
            encode(pictures_of(batch.reference), config, encoder)
            if batch.reference_latents is None
            else batch.reference_latents.float()
        ),
        truth=_clips(frames, windows),
        latents=(
            _clips(encode(frames, config, encoder), windows)
            if batch.latents is None
            else batch.latents.float().movedim(2, 1)
        ),
        maps=maps,
        head=_clips(_head(batch, maps), windows),
        prior=_prior(batch, config, encoder, windows),
    )


def encode(pictures: Tensor, config: ModelConfig, encoder: Encoder | None) -> Tensor:
    """Latents (N, C, h, w) in the networks' scale."""
    if config.autoencoder == "unshuffle":
        return functional.pixel_unshuffle(pictures, config.pixels_per_cell) * config.latent_scale
    return encoder.encode(pictures) * config.latent_scale


def cell_pictures(latents: Tensor, config: ModelConfig) -> Tensor:  # (B, 3, W, H, W)
    """Pictures of cells that hold the pixels themselves; differentiable."""
    windows = latents.shape[2]
    flat = rearrange(latents, "b c w y x -> (b w) c y x") / config.latent_scale
    return _clips(functional.pixel_shuffle(flat, config.pixels_per_cell), windows)


def _prior(batch: Batch, config: ModelConfig, encoder: Encoder | None, windows: int) -> Prior | None:
    if config.prior is None:
        return None
    warp = pictures_of(rearrange(batch.maps["warp"], "b w c y x -> (b w) c y x"))
    labels = rearrange(batch.labels, "b w c y x -> (b w) c y x")
    deviation = prior_deviation(labels, config.prior, config.pixels_per_cell)
    mean = encode(warp, config, encoder)
    return Prior(_clips(mean, windows), _clips(deviation, windows), config.prior.noise)


def _head(batch: Batch, maps: dict[str, Tensor]) -> Tensor:
    """Pixels where the warp's labels or, without them, the maps of the head show one."""
    if batch.labels is not None:
        return rearrange(batch.labels, "b w c y x -> (b w) c y x") != OUTSIDE
    shown = [value.amax(1, keepdim=True) > 0 for name, value in maps.items() if name in ("depth", "normal")]
    return torch.stack(shown or [torch.ones_like(next(iter(maps.values()))[:, :1]) > 0]).any(0)


def _clips(frames: Tensor, windows: int) -> Tensor:
    return rearrange(frames, "(b w) c y x -> b c w y x", w=windows)
