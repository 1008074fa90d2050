"""What a run starts from: new networks, a model folder, SD 1.5, AnimateDiff's motion modules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from magicportrait_core.autoencoder import Autoencoder, check_vae, load_vae
from magicportrait_core.checkpoints.loading import load_model
from magicportrait_core.checkpoints.opening import Networks
from magicportrait_core.checkpoints.presets import DENOISING_UNET, find_files
from magicportrait_core.models.config import ModelConfig
from magicportrait_core.models.initial import new_networks
from magicportrait_core.text import check_text, embed_prompt, read_embedding

from .train_options import TrainOptions


@dataclass(frozen=True)
class Start:
    """Networks on the CPU in float32, with gradients still to be switched on."""

    config: ModelConfig
    networks: Networks
    text: Tensor  # (1, N, D)
    vae: Autoencoder | None  # None with models whose cells hold the pixels themselves


def load_start(options: TrainOptions) -> Start:
    """FileNotFoundError or ValueError of one sentence for files that do not serve."""
    config = options.model.model_config()
    vae = _vae(options, config)
    networks, text = _networks(options, config)
    if options.model.motion:
        from .sd15_weights import load_motion_modules

        load_motion_modules(networks.denoising_unet, Path(options.model.motion))
    return Start(config, networks, _text(options, config, text), vae)


def _networks(options: TrainOptions, config: ModelConfig) -> tuple[Networks, Tensor | None]:
    start = options.model.start
    if not start and options.phase == "motion":
        raise ValueError("--start is missing; the second phase starts from the model folder of the first")
    if start and _is_model(Path(start)):
        return _from_model(Path(start), config)
    if start and options.phase == "motion":
        raise FileNotFoundError(
            f"{start} is no model folder; give the folder `model` of a first phase's output"
        )
    networks = new_networks(config, options.data.seed)
    if start:
        from .sd15_weights import load_sd15

        load_sd15(networks, Path(start))
    return networks, None


def _is_model(folder: Path) -> bool:
    return folder.is_dir() and DENOISING_UNET in find_files(folder).paths


def _from_model(folder: Path, config: ModelConfig) -> tuple[Networks, Tensor | None]:
    model = load_model(folder, torch.float32)
    if (model.config.unet, model.config.guidance, model.config.maps) != (
        config.unet,
        config.guidance,
        config.maps,
    ):
        raise ValueError(
            f"{folder} holds the model {model.config.name!r}, whose networks differ from {config.name!r}; "
            "set model.config to the one that it was trained with"
        )
    return Networks(model.appearance_net, model.denoising_unet, model.guidance_encoders), model.text


def _vae(options: TrainOptions, config: ModelConfig) -> Autoencoder | None:
    if config.autoencoder == "unshuffle":
        return None
    if not options.model.vae:
        raise ValueError("model.vae is missing; this model works on latents: give SD 1.5's VAE or checkpoint")
    vae = load_vae(options.model.vae)
    check_vae(vae, config)
    return vae


def _text(options: TrainOptions, config: ModelConfig, stored: Tensor | None) -> Tensor:
    """The embedding of the one prompt: of a file, else the start's; zeros for models that read none."""
    if options.model.text:
        path = Path(options.model.text)
        try:
            text = read_embedding(path) if path.is_file() and path.suffix == ".safetensors" else None
        except ValueError:
            text = None  # a text encoder, not an embedding
        text = embed_prompt(path) if text is None else text
    elif stored is not None:
        text = stored.float()
    elif config.autoencoder == "unshuffle":
        text = torch.zeros(1, 1, config.unet.text_dim)
    else:
        raise ValueError(
            "model.text is missing; give CLIP-L (clip_l.safetensors) or a whole SD 1.5 checkpoint"
        )
    check_text(text, config)
    return text
