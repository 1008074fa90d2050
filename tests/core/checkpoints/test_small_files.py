"""Files of a warp-preconditioned model: written, loaded, converted; what is said when some are missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.toy_model import TOY_SMALL, write_small_model
from refusals import assert_says, refusal, swap

from magicportrait_core import built_in
from magicportrait_core.checkpoints.converting import convert
from magicportrait_core.checkpoints.loading import load_model
from magicportrait_core.checkpoints.presets import describe_missing, find_files
from magicportrait_core.checkpoints.writing import write_network
from magicportrait_core.models.guidance_encoder import GeometricGuidanceEncoder

MAPS = ("depth", "normal", "warp", "portrait", "sources")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_small_model(tmp_path / "toy_small")


def test_a_folder_says_itself_what_it_holds(folder: Path):
    assert describe_missing(folder) == ""
    assert set(find_files(folder).paths) == {
        "denoising_unet",
        "appearance_net",
        *(f"guidance_encoder_{name}" for name in MAPS),
    }
    model = load_model(folder)
    assert model.config == TOY_SMALL and model.name == "toy_small" and model.dtype == torch.float32
    assert list(model.guidance_encoders) == list(MAPS)
    assert torch.equal(model.text, torch.zeros(1, 1, 16))
    assert not model.denoising_unet.training and not any(
        p.requires_grad for p in model.denoising_unet.parameters()
    )


def test_converted_to_half_precision_it_is_the_same_model(folder: Path, tmp_path: Path):
    written = convert(folder, tmp_path / "half", torch.float16)
    assert sorted(path.name for path in written) == sorted(path.name for path in folder.iterdir())
    model, half = load_model(folder), load_model(tmp_path / "half")
    assert half.config == TOY_SMALL and half.dtype == torch.float16
    assert torch.equal(half.text, model.text)
    for name, value in model.denoising_unet.state_dict().items():
        assert torch.equal(half.denoising_unet.state_dict()[name], value.half())
    again = load_model(tmp_path / "half", torch.float16)
    assert again.fingerprint == half.fingerprint != model.fingerprint


def test_missing_files_are_named_as_the_models_own(folder: Path):
    for name in ("guidance_encoder_warp", "appearance_net"):
        (folder / f"{name}.safetensors").unlink()
    message = describe_missing(folder)
    assert_says(
        message,
        f"{folder} lacks appearance_net.safetensors (AppearanceNet), guidance_encoder_warp.safetensors "
        "(guidance encoder of the warp maps): copy the whole folder again from where the model comes from",
    )
    assert "huggingface" not in message and ".pth" not in message
    assert refusal(folder, config=None) == message


def test_a_file_of_another_size_is_told_without_the_released_page(folder: Path, tmp_path: Path):
    wider = GeometricGuidanceEncoder(replace(TOY_SMALL.guidance, block_out_channels=(16,)), 16)
    path = folder / "guidance_encoder_warp.safetensors"
    write_network(path, wider, "guidance_encoder_warp", TOY_SMALL)
    message = refusal(folder, config=None)
    assert_says(
        message,
        "guidance_encoder_warp.safetensors does not fit the guidance encoder of the warp maps: its",
        "copy guidance_encoder_warp.safetensors again from where the model comes from",
    )
    assert "published" not in message


def test_a_map_encoder_under_anothers_name(folder: Path):
    swap(folder, "guidance_encoder_warp.safetensors", "guidance_encoder_portrait.safetensors")
    assert_says(
        refusal(folder, config=None),
        "guidance_encoder_warp.safetensors says in its header that it is guidance_encoder_portrait, but",
    )


def test_the_built_in_model_is_found_or_its_absence_told(tmp_path: Path, monkeypatch):
    place = tmp_path / "small"
    monkeypatch.setattr(built_in, "_FOLDER", place)
    with pytest.raises(FileNotFoundError, match="the built-in model is not in this copy of the package"):
        built_in.built_in_model()
    write_small_model(place)
    assert load_model(built_in.built_in_model()).config == TOY_SMALL
