"""Loaded networks hold the numbers of the files, whatever form these have."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from golden_model import (
    GOLDEN,
    GOLDEN_CONFIG,
    assert_same_weights,
    golden_model,
    golden_state,
    split_motion,
    weights_of,
)
from safetensors.torch import load_file

from magicportrait_core.checkpoints.loading import load_model
from magicportrait_core.models.model import MagicPortraitModel

Replace = Callable[..., Path]


@pytest.fixture(scope="module")
def golden() -> MagicPortraitModel:
    return golden_model()


def test_published_files_give_the_golden_networks(published_pth: Path, golden: MagicPortraitModel):
    model = load_model(published_pth, config=GOLDEN_CONFIG)
    assert_same_weights(model, golden)
    assert model.config == GOLDEN_CONFIG
    assert model.name == "portrait"
    assert model.text is None
    assert model.dtype == torch.float32


def test_networks_are_ready_for_inference(published: Path):
    model = load_model(published, config=GOLDEN_CONFIG)
    for network in (model.appearance_net, model.denoising_unet, model.guidance_encoders):
        assert not network.training
        for tensor in [*network.parameters(), *network.buffers()]:
            assert tensor.device.type == "cpu"
            assert not tensor.requires_grad


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_outlive_their_files(
    published_files: Path, tmp_path: Path, golden: MagicPortraitModel, suffix: str
):
    for path in published_files.glob(f"*{suffix}"):
        shutil.copy(path, tmp_path)
    model = load_model(tmp_path, config=GOLDEN_CONFIG)
    for path in tmp_path.iterdir():
        path.write_bytes(bytes(path.stat().st_size))  # a mapped tensor would turn to zeros
    assert_same_weights(model, golden)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (torch.float32, torch.float16),
        (torch.float32, torch.bfloat16),
        (torch.float16, None),
        (torch.float16, torch.float32),
        (torch.bfloat16, None),
        (torch.bfloat16, torch.float16),
    ],
)
def test_files_of_any_precision_are_cast_once(
    replace: Replace, published: Path, stored: torch.dtype, wanted: torch.dtype | None
):
    state = {k: v.to(stored) for k, v in golden_state("denoising_unet").items()}
    replace("denoising_unet", state)
    model = load_model(published, wanted, GOLDEN_CONFIG)
    for name, value in weights_of(model).items():
        assert value.dtype == (wanted or stored), name
    assert torch.equal(model.denoising_unet.conv_in.weight, state["conv_in.weight"].to(wanted or stored))


def test_eight_bit_files_load_into_a_precision_that_computes(
    published: Path, replace: Replace, golden: MagicPortraitModel
):
    replace("denoising_unet", load_file(GOLDEN / "denoising_unet.safetensors"))  # fp8 matrices
    assert_same_weights(load_model(published, torch.float32, GOLDEN_CONFIG), golden)
    with pytest.raises(
        ValueError, match="denoising_unet.pth is stored as float8_e4m3fn, in which the networks"
    ):
        load_model(published, config=GOLDEN_CONFIG)


def test_safetensors_do_as_well(published: Path, golden: MagicPortraitModel):
    assert {path.suffix for path in published.iterdir()} == {".safetensors"}
    assert_same_weights(load_model(published, config=GOLDEN_CONFIG), golden)


@pytest.mark.parametrize("suffix", [".pt", ".bin"])
def test_other_suffixes_of_torch(published_pth: Path, golden: MagicPortraitModel, suffix: str):
    for path in published_pth.glob("*.pth"):
        path.rename(path.with_suffix(suffix))
    assert_same_weights(load_model(published_pth, config=GOLDEN_CONFIG), golden)


def test_wrapped_and_prefixed_state_dicts(published: Path, replace: Replace, golden: MagicPortraitModel):
    prefixed = {f"module._orig_mod.{k}": v for k, v in golden_state("reference_unet").items()}
    replace("reference_unet", {"state_dict": prefixed, "global_step": 47360})
    replace("guidance_encoder_depth", {"model": golden_state("guidance_encoder_depth"), "epoch": 3})
    assert_same_weights(load_model(published, config=GOLDEN_CONFIG), golden)


def test_files_of_old_torch(published: Path, golden: MagicPortraitModel):
    (published / "reference_unet.safetensors").unlink()
    path = published / "reference_unet.pth"
    torch.save(golden_state("reference_unet"), path, _use_new_zipfile_serialization=False)
    assert_same_weights(load_model(published, config=GOLDEN_CONFIG), golden)


def test_motion_modules_inside_denoising_unet_need_no_other_file(
    published: Path, replace: Replace, golden: MagicPortraitModel
):
    replace("denoising_unet", golden_state("denoising_unet"))
    (published / "motion_module-47360.safetensors").unlink()
    assert_same_weights(load_model(published, config=GOLDEN_CONFIG), golden)


def test_motion_modules_inside_denoising_unet_come_first(
    published: Path, replace: Replace, golden: MagicPortraitModel
):
    _, motion = split_motion(golden_state("denoising_unet"))
    replace("denoising_unet", golden_state("denoising_unet"))
    replace("motion_module-47360", {k: v if k.endswith(".pe") else v + 1 for k, v in motion.items()})
    assert_same_weights(load_model(published, config=GOLDEN_CONFIG), golden)


def test_output_layers_of_a_whole_reference_unet_are_ignored(
    published: Path, replace: Replace, golden: MagicPortraitModel
):
    base, _ = split_motion(golden_state("denoising_unet"))
    whole = base | golden_state("reference_unet")  # 686 tensors, as a trainer saves a whole UNet
    assert "conv_out.weight" in whole
    replace("reference_unet", whole)
    assert_same_weights(load_model(published, config=GOLDEN_CONFIG), golden)


@pytest.mark.parametrize("rounding", [torch.float16, torch.bfloat16])
def test_rounded_tables_of_positions_are_accepted(
    published: Path, replace: Replace, rounding: torch.dtype, golden: MagicPortraitModel
):
    _, motion = split_motion(golden_state("denoising_unet"))
    rounded = {k: v.to(rounding) if k.endswith(".pe") else v for k, v in motion.items()}
    replace("motion_module-47360", rounded)
    assert_same_weights(load_model(published, config=GOLDEN_CONFIG), golden)


def test_fingerprint_follows_the_numbers(published: Path, replace: Replace, tmp_path: Path):
    first = load_model(published, config=GOLDEN_CONFIG).fingerprint
    copy = shutil.copytree(published, tmp_path / "copy")
    assert load_model(copy, config=GOLDEN_CONFIG).fingerprint == first
    assert load_model(copy, torch.float16, GOLDEN_CONFIG).fingerprint != first

    state = golden_state("reference_unet")
    state["mid_block.resnets.0.conv1.weight"][3, 5, 1, 1] += 0.001  # one of 0.3 million numbers
    replace("reference_unet", state)
    assert load_model(published, config=GOLDEN_CONFIG).fingerprint != first


def test_progress_counts_every_tensor_and_may_stop(published: Path):
    steps = []
    load_model(published, config=GOLDEN_CONFIG, on_step=lambda done, total: steps.append((done, total)))
    total = 1232 + 662 + 3 * 35
    assert steps == [(i + 1, total) for i in range(total)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_model(published, config=GOLDEN_CONFIG, on_step=stop)
