"""A warp-preconditioned model on a training clip: the networks, the prior and the sampler, nothing else.

Clips are at hand as maps at the working size, so tracking, warping and rendering are left out. Windows,
schedule and noise are those of the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from magicportrait_core.diffusion.aggregation import merge_segments
from magicportrait_core.diffusion.noise import frame_noise
from magicportrait_core.diffusion.preconditioning import precondition, prior_deviation
from magicportrait_core.diffusion.sampler import sample_clip
from magicportrait_core.diffusion.schedule import ddim_schedule, noise_levels
from magicportrait_core.diffusion.segments import Windows
from magicportrait_core.diffusion.windows import plan_windows
from magicportrait_core.models.appearance_net import AppearanceNet
from magicportrait_core.models.config import ModelConfig
from magicportrait_core.models.denoising_unet import ClipConditioning, DenoisingUNet
from magicportrait_core.models.guidance_encoder import GuidanceEncoders
from magicportrait_core.reference import named
from magicportrait_core.warp.sources import OUTSIDE
from training.clip_store import Clip
from training.examples import network_maps

FRAMES_AT_ONCE = 12  # single pictures denoised together


class Networks(Protocol):
    """A MagicPortraitModel, or the networks that are being trained."""

    appearance_net: AppearanceNet
    denoising_unet: DenoisingUNet
    guidance_encoders: GuidanceEncoders


@dataclass(frozen=True)
class WarpedClip:
    """A clip as networks with a prior read it, 8-bit levels at the working size."""

    reference: Tensor  # (3, H, W) uint8
    frames: Tensor  # (F, 3, H, W) uint8, the truth
    maps: dict[str, Tensor]  # (F, 3, H, W) uint8, every one of ModelConfig.maps
    warp: Tensor  # (F, 3, H, W) uint8
    labels: Tensor  # (F, 1, H, W) uint8
    head: Tensor  # (F, 1, H, W) bool, where the head model stands
    ordered: bool  # frames follow one another in time


def warped_clip(clip: Clip, config: ModelConfig) -> WarpedClip:
    """A clip of a store as the model reads it.

    Raises ValueError for a model or a clip without a warp, and for a clip of another size.
    """
    if config.prior is None or config.autoencoder != "unshuffle":
        raise ValueError(
            f"model {config.name!r} works on the latents of a VAE; only warp-preconditioned models can be "
            "measured on stored clips: evaluate this one with --videos"
        )
    needed = {"warp", "sources", *config.maps} - {"portrait"}
    missing = sorted(needed - clip.maps.keys()) + ["portrait"] * (clip.reference is None)
    if missing:
        raise ValueError(
            f"clip {clip.name!r} lacks {missing[0]!r}, which the model {config.name!r} reads; make the data "
            "for this model"
        )
    if any(side % config.pixel_multiple for side in clip.size):
        raise ValueError(
            f"clip {clip.name!r} is {named(clip.size)} pixels, the model {config.name!r} needs multiples of "
            f"{config.pixel_multiple}; make the data in its size"
        )
    maps = network_maps(clip, config)
    head = (clip.maps["depth"] > 0) if "depth" in clip.maps else clip.maps["sources"] != OUTSIDE
    return WarpedClip(
        reference=clip.reference,
        frames=clip.frames,
        maps={name: maps[name] for name in config.maps},
        warp=clip.maps["warp"],
        labels=clip.maps["sources"],
        head=head,
        ordered=clip.fps > 0,
    )


@torch.no_grad()
def sample_stored(
    networks: Networks,
    config: ModelConfig,
    text: Tensor,  # (1, N, D)
    clip: WarpedClip,
    steps: int = 1,
    seed: int = 0,
) -> Tensor:  # (F, 3, H, W) uint8, at the working size
    """The clip that a model makes of the portrait, its warp and the maps, without classifier-free guidance.

    Networks stay where they are, in their precision, and should be in eval mode.
    """
    denoiser = _Denoiser.prepare(networks, config, text, clip)
    count = len(clip.frames)
    windows = plan_windows(count, config.window) if clip.ordered else tuple((i,) for i in range(count))
    noise = frame_noise(seed, range(count), tuple(denoiser.mean.shape[1:])) * config.noise_scale
    segments = sample_clip(
        denoiser,
        noise,
        ddim_schedule(steps),
        windows,
        latent_scale=config.latent_scale,
        windows_per_batch=1 if clip.ordered else FRAMES_AT_ONCE,
    )
    cells = merge_segments([segments]).movedim(1, 0) / config.latent_scale
    return to_levels(functional.pixel_shuffle(cells, config.pixels_per_cell))


def to_levels(pictures: Tensor) -> Tensor:
    """[-1, 1] -> uint8, shape kept."""
    return pictures.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def from_levels(levels: Tensor) -> Tensor:
    """uint8 -> [-1, 1], shape kept."""
    return levels.float() / 127.5 - 1


@dataclass(frozen=True)
class _Denoiser:
    """A sampler.Denoiser of one clip: the networks' output through the preconditioning."""

    unet: DenoisingUNet
    conditioning: ClipConditioning
    features: Tensor  # (F, E, h, w)
    mean: Tensor  # (F, C, h, w)
    deviation: Tensor  # (F, 1, h, w)
    levels: tuple[Tensor, Tensor]  # signal and sigma of the 1000 timesteps
    noise: float  # of the prior
    motion: bool

    @classmethod
    def prepare(cls, networks: Networks, config: ModelConfig, text: Tensor, clip: WarpedClip) -> _Denoiser:
        unet = networks.denoising_unet
        first = next(unet.parameters())
        place = {"device": first.device, "dtype": first.dtype}
        text = text.to(**place)

        def cells(levels: Tensor) -> Tensor:
            pictures = from_levels(levels) * config.latent_scale
            return functional.pixel_unshuffle(pictures, config.pixels_per_cell)

        tokens = networks.appearance_net(cells(clip.reference[None]).to(**place), text)
        features = [
            networks.guidance_encoders(
                {name: (value[part].float() / 255).to(**place) for name, value in clip.maps.items()}
            )
            for part in torch.arange(len(clip.frames)).split(FRAMES_AT_ONCE)
        ]
        return cls(
            unet=unet,
            conditioning=unet.condition(tokens, text),
            features=torch.cat(features),
            mean=cells(clip.warp).to(first.device),
            deviation=prior_deviation(clip.labels, config.prior, config.pixels_per_cell).to(first.device),
            levels=noise_levels(),
            noise=config.prior.noise,
            motion=clip.ordered,
        )

    def __call__(self, latents: Tensor, timestep: int, windows: Windows) -> Tensor:
        where = torch.tensor(windows)  # (B, W)
        features, mean, deviation = (
            value[where].movedim(1, 2) for value in (self.features, self.mean, self.deviation)
        )
        output = self.unet(
            latents.to(features), timestep, self.conditioning, features, motion=self.motion
        ).float()
        signal, sigma = (float(level[timestep]) for level in self.levels)
        return precondition(output, latents.to(output), signal, sigma, mean, deviation, self.noise)
