"""The VAE's files: SD's and diffusers' names, whole checkpoints, and what is not SD 1.5's VAE."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import AutoencoderKL
from golden_model import GOLDEN
from safetensors.torch import load_file, save_file
from sd_vae import random_vae, sd_layout

from magicportrait_core.autoencoder import (
    Autoencoder,
    check_vae,
    config_of,
    diffusers_names,
    load_vae,
)
from magicportrait_core.models.config import SD15


def test_every_key_of_a_full_size_file_in_sds_format_has_its_place():
    state = sd_layout()
    assert len(state) == 248
    renamed = diffusers_names(state)
    with torch.device("meta"):
        expected = AutoencoderKL.from_config(config_of(renamed, "vae")).state_dict()
    assert {k: tuple(v.shape) for k, v in renamed.items()} == {k: tuple(v.shape) for k, v in expected.items()}
    assert diffusers_names(expected).keys() == expected.keys()  # today's names stay


@pytest.mark.parametrize(
    ("sd", "diffusers"),
    [
        (
            "encoder.down.1.block.0.nin_shortcut.weight",
            "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
        ),
        ("encoder.down.2.downsample.conv.bias", "encoder.down_blocks.2.downsamplers.0.conv.bias"),
        ("encoder.mid.block_2.norm1.weight", "encoder.mid_block.resnets.1.norm1.weight"),
        ("decoder.up.3.block.2.conv1.weight", "decoder.up_blocks.0.resnets.2.conv1.weight"),
        ("decoder.up.0.block.0.conv2.bias", "decoder.up_blocks.3.resnets.0.conv2.bias"),
        ("decoder.up.1.upsample.conv.weight", "decoder.up_blocks.2.upsamplers.0.conv.weight"),
        ("decoder.mid.attn_1.norm.weight", "decoder.mid_block.attentions.0.group_norm.weight"),
        ("decoder.mid.attn_1.proj_out.bias", "decoder.mid_block.attentions.0.to_out.0.bias"),
        ("encoder.mid.attn_1.k.bias", "encoder.mid_block.attentions.0.to_k.bias"),
        ("encoder.norm_out.weight", "encoder.conv_norm_out.weight"),
    ],
)
def test_names_of_sd_become_those_of_diffusers(sd, diffusers):
    everything = sd_layout()
    everything[sd] = everything[sd].to(torch.float16)  # to know it again
    (found,) = [name for name, value in diffusers_names(everything).items() if value.dtype == torch.float16]
    assert found == diffusers


def test_all_kinds_of_files_hold_the_same_vae(tmp_path):
    weights = random_vae()
    save_file(weights, tmp_path / "sd.safetensors")
    whole = {f"first_stage_model.{k}": v for k, v in weights.items()} | {
        "model.diffusion_model.x": torch.ones(1),
        "first_stage_model.loss.logvar": torch.ones(1),
    }
    torch.save({"state_dict": whole}, tmp_path / "whole.ckpt")
    vae = load_vae(tmp_path / "sd.safetensors")
    vae.vae.save_pretrained(tmp_path / "folder" / "vae")
    state = load_file(tmp_path / "folder" / "vae" / "diffusion_pytorch_model.safetensors")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, name in old.items():
        state = {k.replace(f".{new}.", f".{name}."): v for k, v in state.items()}
    save_file(state, tmp_path / "old.safetensors")

    pictures = torch.rand(2, 3, 32, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = vae.encode(pictures)
    assert latents.shape == (2, 4, 4, 2) and latents.std() > 0.05
    for name in ("whole.ckpt", "folder", "folder/vae", "old.safetensors"):
        assert torch.equal(load_vae(tmp_path / name).encode(pictures), latents)


@pytest.fixture
def golden_vae(tmp_path) -> Autoencoder:
    """8 channels in 4 norm groups, which only a config.json can say."""
    save_file(load_file(GOLDEN / "vae.safetensors"), tmp_path / "diffusion_pytorch_model.safetensors")
    config = {"_class_name": "AutoencoderKL", "block_out_channels": [8] * 4, "norm_num_groups": 4}
    config |= {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    (tmp_path / "config.json").write_text(json.dumps(config | {"layers_per_block": 1}))
    return load_vae(tmp_path)


def test_frames_come_one_at_a_time_and_do_not_depend_on_each_other(golden_vae):
    latents = torch.randn(3, 4, 3, 2, generator=torch.Generator().manual_seed(0))
    frames = list(golden_vae.decode(latents))
    assert [tuple(frame.shape) for frame in frames] == [(3, 24, 16)] * 3
    assert all(frame.abs().max() <= 1 for frame in frames)
    torch.testing.assert_close(next(golden_vae.decode(latents[2:])), frames[2])
    assert not next(golden_vae.decode(latents)).requires_grad


def test_the_fingerprint_is_of_the_weights(golden_vae, tmp_path):
    first = golden_vae.fingerprint
    assert load_vae(tmp_path).fingerprint == first
    golden_vae.vae.encoder.conv_in.weight.mul_(1.01)
    assert golden_vae.fingerprint != first


def test_values_that_are_not_finite_name_the_remedy(golden_vae):
    with pytest.raises(ValueError, match="not finite numbers when decoding a frame in float32"):
        next(golden_vae.decode(torch.full((1, 4, 2, 2), torch.nan)))


def test_a_vae_of_another_family_is_refused(tmp_path):
    state = sd_layout((32, 32), latents=16)
    save_file({k: torch.zeros(v.shape) for k, v in state.items()}, tmp_path / "other.safetensors")
    vae = load_vae(tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match="latents of 16 channels with 2 pixels a cell, the model needs 4 and 8"
    ):
        check_vae(vae, SD15)


def test_the_vae_of_sdxl_is_known_by_its_config(golden_vae, tmp_path):
    check_vae(golden_vae, SD15)
    config = json.loads((tmp_path / "config.json").read_text()) | {"scaling_factor": 0.13025}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match="for a scale of 0.13025, the model needs 0.18215; expected SD 1.5's"
    ):
        check_vae(load_vae(tmp_path), SD15)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"model.diffusion_model.input_blocks.0.0.weight": (2,)}, "holds no VAE that this model can use"),
        ({"conditioner.embedders.0.x": (2,), "first_stage_model.encoder.x": (2,)}, "is an SDXL checkpoint"),
    ],
)
def test_foreign_files_are_refused(tmp_path, tensors, message):
    save_file({k: torch.zeros(s) for k, s in tensors.items()}, tmp_path / "file.safetensors")
    with pytest.raises(ValueError, match=f"file.safetensors {message}.*expected SD 1.5's"):
        load_vae(tmp_path / "file.safetensors")


def test_incomplete_files_are_refused(tmp_path):
    weights = random_vae()
    del weights["decoder.mid.attn_1.q.weight"]
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match=r"lacks 'decoder.mid_block.attentions.0.to_q.weight'"):
        load_vae(tmp_path / "part.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "part.safetensors").read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut.safetensors cannot be read.*download or copy it again"):
        load_vae(tmp_path / "cut.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no VAE in"):
        load_vae(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_vae(tmp_path / "none.safetensors")
