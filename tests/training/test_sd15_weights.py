"""SD 1.5 and AnimateDiff as the start, at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.torch import save_file
from toy_model import TOY, randomise

from magicportrait_core.checkpoints.content import MOTION
from magicportrait_core.checkpoints.key_maps import DENOISING_UNET
from magicportrait_core.models.config import SD15
from magicportrait_core.models.initial import new_networks
from magicportrait_core.models.unet_blocks import frame_positions
from training.sd15_weights import (
    _PLACES,
    _RESNET,
    LDM,
    _block_places,
    load_motion_modules,
    load_sd15,
    unet_names,
)


def sd15_unet(config) -> UNet2DConditionModel:
    """As diffusers has it, with another head and all that the trained networks do not have."""
    return UNet2DConditionModel(
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.text_dim,
        attention_head_dim=config.heads,
        norm_num_groups=config.norm_groups,
    )


def ldm_name(name: str, config) -> str:
    """The name in a whole checkpoint."""
    places = {ours: theirs for theirs, ours in (_PLACES | _block_places(config)).items()}
    place = next(place for place in sorted(places, key=len, reverse=True) if name.startswith(f"{place}."))
    inner = name.removeprefix(f"{place}.")
    if ".resnets." in f"{place}.":
        layer = {ours: theirs for theirs, ours in _RESNET.items()}[inner.rpartition(".")[0]]
        inner = f"{layer}.{inner.rpartition('.')[2]}"
    return f"{LDM}{places[place]}.{inner}"


@pytest.mark.parametrize("config", [SD15.unet, TOY.unet], ids=["released", "toy"])
def test_names_of_checkpoints_are_read_as_diffusers_reads_them(config):
    with torch.device("meta"):
        names = list(sd15_unet(config).state_dict())
    checkpoint = {ldm_name(name, config): ldm_name(name, config) for name in names}
    theirs = convert_ldm_unet_checkpoint(dict(checkpoint), {"layers_per_block": config.layers_per_block})
    ours = unet_names(checkpoint, config)
    assert ours == theirs and ours.keys() == set(names)
    if config is SD15.unet:  # names that anyone can look up in v1-5-pruned.safetensors
        known = {
            "down_blocks.1.resnets.0.conv_shortcut.weight": "input_blocks.4.0.skip_connection.weight",
            "up_blocks.0.upsamplers.0.conv.bias": "output_blocks.2.1.conv.bias",
            "up_blocks.3.attentions.2.proj_out.weight": "output_blocks.11.1.proj_out.weight",
            "mid_block.resnets.1.norm2.weight": "middle_block.2.out_layers.0.weight",
        }
        assert {name: ours[name].removeprefix(LDM) for name in known} == known


@pytest.mark.parametrize("kind", ["folder", "unet_folder", "checkpoint"])
def test_both_networks_start_as_sd15(tmp_path, kind):
    unet = randomise(sd15_unet(TOY.unet), torch.Generator().manual_seed(0))
    state = unet.state_dict()
    path = write(tmp_path, state, kind)
    networks = new_networks(TOY, seed=5)
    fresh = new_networks(TOY, seed=5).denoising_unet.state_dict()
    load_sd15(networks, path)
    for network in (networks.appearance_net, networks.denoising_unet):
        for name, value in network.state_dict().items():
            assert torch.equal(value, fresh[name] if MOTION in name else state[name]), name


def test_a_picture_denoised_is_sd15_s(tmp_path):
    """Untrained guidance and motion change nothing: without a portrait the Denoising UNet is SD 1.5."""
    unet = randomise(sd15_unet(TOY.unet), torch.Generator().manual_seed(0))
    networks = new_networks(TOY)
    load_sd15(networks, write(tmp_path, unet.state_dict(), "checkpoint"))
    random = torch.Generator().manual_seed(1)
    latents, text = torch.randn(2, 4, 16, 16, generator=random), torch.randn(1, 7, 768, generator=random)
    with torch.no_grad():
        expected = unet(latents, 500, text.expand(2, -1, -1)).sample
        conditioning = networks.denoising_unet.condition(None, text)
        guidance = networks.guidance_encoders({name: torch.rand(2, 3, 128, 128) for name in TOY.maps})
        found = networks.denoising_unet(
            latents[:, :, None], 500, conditioning, guidance[:, :, None], torch.tensor([False, False])
        )
    torch.testing.assert_close(found[:, :, 0], expected, rtol=0, atol=1e-4)


def write(folder: Path, state: dict, kind: str) -> Path:
    if kind == "checkpoint":
        others = {"first_stage_model.encoder.conv_in.weight": torch.zeros(1)}
        path = folder / "v1-5.safetensors"
        save_file({ldm_name(name, TOY.unet): value for name, value in state.items()} | others, path)
        return path
    inner = folder / "unet" if kind == "folder" else folder
    inner.mkdir(exist_ok=True)
    save_file(state, inner / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("conv_in.weight"), "lacks 'conv_in.weight' of SD 1.5"),
        (
            lambda s: s.update({"conv_in.weight": torch.zeros(16, 9, 3, 3)}),
            "16, 9, 3, 3. and not .16, 4",
        ),
        (lambda s: s.update({"add_embedding.x": torch.zeros(1)}), "no SD 1.5 UNet.*add_embedding.x"),
        (lambda s: s["conv_in.bias"].fill_(float("nan")), "no finite numbers"),
    ],
)
def test_other_models_are_named(tmp_path, change, message):
    state = {name: value.clone() for name, value in sd15_unet(TOY.unet).state_dict().items()}
    change(state)
    with pytest.raises(ValueError, match=message):
        load_sd15(new_networks(TOY), write(tmp_path, state, "folder"))


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no UNet in"):
        load_sd15(new_networks(TOY), tmp_path)


def test_motion_modules_come_from_animatediff(tmp_path):
    donor = randomise(new_networks(TOY).denoising_unet, torch.Generator().manual_seed(0)).state_dict()
    unet = new_networks(TOY).denoising_unet
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    load_motion_modules(unet, write_animatediff(tmp_path / "mm.safetensors", donor))
    for name, value in unet.state_dict().items():
        assert torch.equal(value, donor[name] if MOTION in name else before[name]), name


def write_animatediff(path: Path, donor: dict) -> Path:
    """In AnimateDiff's own names, with its tables of positions."""
    state = {}
    for name, value in donor.items():
        if MOTION not in name:
            continue
        place, _, inner = name.partition(MOTION)
        number, _, rest = inner.partition(".")
        for released, ours in reversed(DENOISING_UNET.renames[1:]):
            rest = rest.replace(ours.strip("."), released.strip(".")) if ours.strip(".") in rest else rest
        state[f"{place}{MOTION}{number}.temporal_transformer.{rest}"] = value.clone()
        if name.endswith("attn1.to_q.weight"):
            table = frame_positions(TOY.unet.max_frames, value.shape[0])[None]
            attention = rest.removesuffix("to_q.weight")
            state[f"{place}{MOTION}{number}.temporal_transformer.{attention}pos_encoder.pe"] = table
    save_file(state, path)
    return path


def test_a_file_of_something_else_is_no_motion_module(tmp_path):
    save_file(sd15_unet(TOY.unet).state_dict(), tmp_path / "unet.safetensors")
    with pytest.raises(ValueError, match="a UNet without motion modules"):
        load_motion_modules(new_networks(TOY).denoising_unet, tmp_path / "unet.safetensors")
