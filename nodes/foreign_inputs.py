"""What other nodes make for the sampler, VAE and CONDITIONING, checked and in core's form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..magicportrait_core.checkpoints.fingerprint import Fingerprint
from ..magicportrait_core.pixel_unshuffle import PixelUnshuffle
from ..magicportrait_core.text import PROMPT
from . import host

if TYPE_CHECKING:
    from comfy.sd import VAE

    from ..magicportrait_core.models.config import ModelConfig
    from ..magicportrait_core.models.model import MagicPortraitModel

WIDTHS = {1024: "Stable Diffusion 2", 1280: "SDXL's refiner", 2048: "SDXL", 4096: "Flux, SD3 or Wan"}
LATENTS = {8: "an audio model", 16: "SD3, Flux, Wan or Qwen", 32: "Flux 2", 48: "Wan 2.2", 128: "LTX Video"}
GOOD_VAE = "load one of Stable Diffusion 1.5, for example vae-ft-mse-840000-ema-pruned.safetensors"
GOOD_TEXT = f"connect CLIP Text Encode with '{PROMPT}' and the text encoder of Stable Diffusion 1.5"


def text_embedding(conditioning: list | None, model: MagicPortraitModel) -> Tensor:  # (1, N, D)
    """The prompt of a CONDITIONING, or the one stored with the model."""
    if conditioning is None:
        if model.text is None:
            raise ValueError(
                "conditioning is not connected, and no text embedding is stored with the model "
                f"{model.name!r}: {GOOD_TEXT} (clip_l.safetensors)."
            )
        return model.text
    if len(conditioning) != 1:
        raise ValueError(
            f"conditioning has {len(conditioning)} entries, expected one: {GOOD_TEXT}, without combining it "
            "with others."
        )
    text, width = conditioning[0][0], model.config.unet.text_dim
    if model.text is not None and text.ndim == 3 and text.shape[2] != width:
        raise ValueError(
            f"conditioning has the shape {tuple(text.shape)}, which the model {model.name!r} cannot read; it "
            "brings its own text embedding along: disconnect conditioning."
        )
    if text.ndim != 3 or text.shape[0] != 1 or text.shape[2] != width:
        family = f", which is that of {WIDTHS[text.shape[-1]]}" if text.shape[-1] in WIDTHS else ""
        raise ValueError(
            f"conditioning has the shape {tuple(text.shape)}{family}; the model needs (1, tokens, {width}): "
            f"{GOOD_TEXT} (clip_l.safetensors)."
        )
    if not bool(text.isfinite().all()):
        raise ValueError(
            "conditioning holds values that are not finite: load the text encoder again, with the device "
            "'cpu' if that does not help."
        )
    return text.float().cpu()


def encode_portrait(
    vae: VAE | None,
    pixels: Tensor,  # (3, H, W) in [-1, 1], of the working size
    config: ModelConfig,
) -> Tensor:  # (1, C, h, w) float32 on the CPU, in the network's scale
    """The mean latents of the portrait; the host decides where and in which precision."""
    if config.autoencoder == "unshuffle":
        return PixelUnshuffle(config.pixels_per_cell).encode(pixels[None]).cpu() * config.latent_scale
    latents = vae.encode(host.to_image(pixels[None]))
    unit = config.pixels_per_cell
    expected = (1, config.unet.latent_channels, pixels.shape[1] // unit, pixels.shape[2] // unit)
    if tuple(latents.shape) != expected:
        raise ValueError(f"this VAE made latents of {tuple(latents.shape)}, expected {expected}: {GOOD_VAE}.")
    if not bool(latents.isfinite().all()):
        raise ValueError(
            "the VAE made latents of the portrait that are not finite: start ComfyUI with --fp32-vae, or "
            f"{GOOD_VAE}."
        )
    return latents.float().cpu() * config.latent_scale


def check_vae(vae: VAE | None, config: ModelConfig) -> None:
    """Refuses VAEs of another family, where its latents tell; SDXL's have the same shape as SD 1.5's.

    Models whose latents hold the pixels themselves need none, and do not look at one.
    """
    if config.autoencoder == "unshuffle":
        return
    if getattr(vae, "first_stage_model", None) is None:
        raise ValueError(
            f"vae is not connected, or the checkpoint it comes from has none, and the model {config.name!r} "
            f"needs one: {GOOD_VAE}."
        )
    channels, unit = vae.latent_channels, vae.spacial_compression_encode()
    if (channels, unit, vae.latent_dim) == (config.unet.latent_channels, config.pixels_per_cell, 2):
        return
    family = f" (as of {LATENTS[channels]})" if channels in LATENTS else ""
    kind = "a VAE for video" if vae.latent_dim == 3 else "a VAE"
    raise ValueError(
        f"vae is {kind} with latents of {channels} channels and {unit} pixels a cell{family}; the model "
        f"needs {config.unet.latent_channels} channels and {config.pixels_per_cell} pixels: {GOOD_VAE}."
    )


def vae_fingerprint(vae: VAE | None, config: ModelConfig) -> str:
    """Of the weights, and the same in every precision that the host chooses for a machine."""
    if config.autoencoder == "unshuffle":
        return PixelUnshuffle(config.pixels_per_cell).fingerprint
    weights = Fingerprint()
    for name, value in vae.get_sd().items():
        weights.add(name, value.to("cpu", torch.bfloat16, copy=True))
    return weights.text()
