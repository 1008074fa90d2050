"""Stable Diffusion 1.5's UNet and AnimateDiff's motion modules as the start of a training."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from magicportrait_core.checkpoints.content import MOTION, what_is
from magicportrait_core.checkpoints.opening import Networks
from magicportrait_core.checkpoints.sources import locate_motion_modules
from magicportrait_core.checkpoints.weights import Weights, open_weights
from magicportrait_core.models.config import UNetConfig

LDM = "model.diffusion_model."  # of the UNet in whole checkpoints
FILES = tuple(f"diffusion_pytorch_model{kind}" for kind in (".safetensors", ".fp16.safetensors", ".bin"))
EXPECTED = "expected SD 1.5: its diffusers folder, or a checkpoint such as v1-5-pruned.safetensors"

_PLACES = {  # LDM's name of a layer -> diffusers'
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def load_sd15(networks: Networks, path: Path) -> None:
    """SD 1.5's weights into AppearanceNet and into the Denoising UNet beside its motion modules.

    FileNotFoundError or ValueError of one sentence for a file that is missing, damaged or of another model.
    """
    weights = open_weights(_unet_file(path))
    stored = unet_names(weights.shapes, networks.denoising_unet.config)
    wanted = [name for name in networks.denoising_unet.state_dict() if MOTION not in name]
    surplus = sorted(stored.keys() - set(wanted))
    if surplus:
        raise ValueError(f"{weights.name} is no SD 1.5 UNet (it has {surplus[0]!r}); {EXPECTED}")
    _copy(networks.denoising_unet, wanted, weights, stored)
    _copy(networks.appearance_net, list(networks.appearance_net.state_dict()), weights, stored)


def load_motion_modules(unet: nn.Module, path: Path) -> None:
    """AnimateDiff's weights (version 2, with a mid block) into the motion modules."""
    expected = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    places = locate_motion_modules(path, expected, unet.config)
    with torch.no_grad():
        state = unet.state_dict()
        for name, (weights, stored) in places.items():
            state[name].copy_(weights.read(stored))


def unet_names(names: Iterable[str], config: UNetConfig) -> dict[str, str]:
    """diffusers' name -> the stored name, of the UNet in a diffusers file or a whole checkpoint."""
    names = list(names)
    inside = [name for name in names if name.startswith(LDM)]
    if not inside:
        return {name: name for name in names}
    places = _PLACES | _block_places(config)
    return {_diffusers_name(name.removeprefix(LDM), places): name for name in inside}


def _block_places(config: UNetConfig) -> dict[str, str]:
    """LDM counts resnets and samplers through; what belongs to one count are numbered parts."""
    levels, layers = len(config.block_out_channels), config.layers_per_block
    places, number = {}, 1
    for level in range(levels):
        for layer in range(layers):
            places[f"input_blocks.{number}.0"] = f"down_blocks.{level}.resnets.{layer}"
            places[f"input_blocks.{number}.1"] = f"down_blocks.{level}.attentions.{layer}"
            number += 1
        if level < levels - 1:
            places[f"input_blocks.{number}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
            number += 1
    for level in range(levels):
        attends = config.attention_levels[levels - 1 - level]
        for layer in range(layers + 1):
            block = f"output_blocks.{level * (layers + 1) + layer}"
            places[f"{block}.0"] = f"up_blocks.{level}.resnets.{layer}"
            if attends:
                places[f"{block}.1"] = f"up_blocks.{level}.attentions.{layer}"
        places[f"{block}.{1 + attends}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
    return places


def _diffusers_name(name: str, places: Mapping[str, str]) -> str:
    """Names that are in no table stay, so that messages show them."""
    for length in (4, 3, 2):
        place = ".".join(name.split(".")[:length])
        if place in places:
            inner = name.removeprefix(f"{place}.")
            if match := re.match(r"(in_layers\.\d|emb_layers\.\d|out_layers\.\d|skip_connection)\.", inner):
                inner = inner.replace(match[1], _RESNET.get(match[1], match[1]), 1)
            return f"{places[place]}.{inner}"
    return name


def _copy(network: nn.Module, names: list[str], weights: Weights, stored: Mapping[str, str]) -> None:
    state = network.state_dict()
    for name in names:
        if name not in stored:
            kind = what_is(weights.shapes)
            raise ValueError(f"{weights.name} lacks {name!r} of SD 1.5; it seems to hold {kind}; {EXPECTED}")
        shape = tuple(weights.shapes[stored[name]])
        here = tuple(state[name].shape)
        if shape != here:
            raise ValueError(f"{stored[name]!r} in {weights.name} is {shape} and not {here}; {EXPECTED}")
        value = weights.read(stored[name]).float()
        if not value.isfinite().all():
            raise ValueError(f"{stored[name]!r} in {weights.name} holds values that are no finite numbers")
        with torch.no_grad():
            state[name].copy_(value)


def _unet_file(path: Path) -> Path:
    if not path.is_dir():
        return path  # open_weights() says when it is not there
    for folder in (path / "unet", path):
        for name in FILES:
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(f"there is no UNet in {path}; {EXPECTED}")
