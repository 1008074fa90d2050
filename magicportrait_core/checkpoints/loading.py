"""A model folder -> MagicPortraitModel."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from ..models.config import ModelConfig
from ..models.model import MagicPortraitModel
from .fingerprint import Fingerprint
from .opening import OnStep, counter, open_model
from .presets import DENOISING_UNET


def load_model(
    folder: str | Path,
    dtype: torch.dtype | None = None,
    config: ModelConfig | None = None,
    on_step: OnStep | None = None,
) -> MagicPortraitModel:
    """The model in `folder` on the CPU, in eval mode, its parameters without gradients.

    folder: published files (.pth, .pt, .bin, .ckpt or .safetensors), converted ones, or some of each.
    dtype: float32, float16 or bfloat16; None takes what the Denoising UNet is stored in.
    config: sizes of the networks; None takes them from a converted file, else SD 1.5's.
    on_step(done, total) counts tensors; raise in it to stop.

    Memory peaks at the model in `dtype` and what is mapped of one file. Raises FileNotFoundError or
    ValueError of one sentence for a file that is missing, damaged, unsafe, or of another network or size. For
    which maps a published guidance encoder was trained cannot be seen in it: depth and normal, exchanged,
    load. Nor can AnimateDiff's own version 2 be told from the published motion modules.
    """
    folder = Path(folder)
    model = open_model(folder, config)
    denoising = model.sources[DENOISING_UNET]
    dtype, text = dtype or denoising.dtype, denoising.text
    step, fingerprint = counter(model.sources, on_step), Fingerprint()
    fingerprint.add_text(json.dumps(model.config.to_json(), sort_keys=True))
    del denoising  # held here, its files would stay open
    for role, network in model.networks.by_role().items():
        state: dict[str, Tensor] = {}
        for name, tensor in model.sources.pop(role).tensors(dtype):
            state[name] = tensor
            fingerprint.add(f"{role} {name}", tensor)
            step()
        network.load_state_dict(state, assign=True)
    networks = model.networks
    for network in (networks.appearance_net, networks.denoising_unet, networks.guidance_encoders):
        network.eval().requires_grad_(False)
    return MagicPortraitModel(
        config=model.config,
        appearance_net=networks.appearance_net,
        denoising_unet=networks.denoising_unet,
        guidance_encoders=networks.guidance_encoders,
        text=text,
        fingerprint=fingerprint.text(),
        name=folder.name,
    )
