"""Converted files: the same numbers, one file per network, a header that says what it is."""

from __future__ import annotations

import json
from dataclasses import replace as changed
from pathlib import Path

import pytest
import torch
from golden_model import GOLDEN_CONFIG, assert_same_weights
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from magicportrait_core import tensor_files
from magicportrait_core.checkpoints.converting import convert
from magicportrait_core.checkpoints.loading import load_model
from magicportrait_core.checkpoints.presets import describe_missing
from magicportrait_core.checkpoints.writing import write_network
from magicportrait_core.models.config import ModelConfig

NAMES = [
    "denoising_unet.safetensors",
    "appearance_net.safetensors",
    "guidance_encoder_depth.safetensors",
    "guidance_encoder_normal.safetensors",
    "guidance_encoder_render.safetensors",
]


def test_converted_files_load_as_the_published_ones(published: Path, converted: Path):
    assert sorted(path.name for path in converted.iterdir()) == sorted(NAMES)
    from_published = load_model(published, config=GOLDEN_CONFIG)
    from_converted = load_model(converted)  # the config is in the files
    assert_same_weights(from_converted, from_published)
    assert from_converted.fingerprint == from_published.fingerprint
    assert from_converted.config == GOLDEN_CONFIG


def test_casting_while_converting_is_casting_while_loading(published: Path, tmp_path: Path):
    dtype = torch.bfloat16
    convert(published, tmp_path / "half", dtype, config=GOLDEN_CONFIG)
    from_half = load_model(tmp_path / "half")
    from_published = load_model(published, dtype, GOLDEN_CONFIG)
    assert from_half.dtype == dtype
    assert_same_weights(from_half, from_published)
    assert from_half.fingerprint == from_published.fingerprint


def test_other_programs_read_converted_files(converted: Path):
    with safe_open(converted / "denoising_unet.safetensors", "pt") as file:
        assert len(list(file.keys())) == 1232
        metadata = file.metadata()
    assert (metadata["format"], metadata["version"]) == ("magicportrait_network", "1")
    header = json.loads(metadata["header"])
    assert header["role"] == "denoising_unet"
    assert ModelConfig.from_json(header["config"]) == GOLDEN_CONFIG
    assert "mengtingwei/MagicPortrait" in header["notes"]["source"]
    assert "Apache-2.0" in header["notes"]["licence"]


def test_dead_weights_are_left_behind(converted: Path):
    names = load_file(converted / "guidance_encoder_depth.safetensors").keys()
    assert len(names) == 35
    assert {name.split(".")[1] for name in names if name.startswith("attentions.")} == {"5"}
    assert "conv_out.weight" not in load_file(converted / "appearance_net.safetensors")


def test_converting_again_gives_the_same_bytes(published: Path, converted: Path, tmp_path: Path):
    convert(published, tmp_path / "again", config=GOLDEN_CONFIG)
    for name in NAMES:
        assert (converted / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_prompt_travels_with_the_model(published: Path, tmp_path: Path):
    text = torch.randn(1, 7, 16, generator=torch.Generator().manual_seed(0))
    convert(published, tmp_path / "one", text=text, config=GOLDEN_CONFIG)
    model = load_model(tmp_path / "one")
    assert torch.equal(model.text, text)
    assert model.fingerprint == load_model(published, config=GOLDEN_CONFIG).fingerprint  # of the weights

    convert(tmp_path / "one", tmp_path / "two", torch.float16)
    assert torch.equal(load_model(tmp_path / "two").text, text)


def test_a_foreign_text_embedding_is_refused(published: Path, tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"the text embedding has shape \(1, 77, 768\), expected \(1, tokens, 16"
    ):
        convert(published, tmp_path / "one", text=torch.zeros(1, 77, 768), config=GOLDEN_CONFIG)
    assert not (tmp_path / "one").exists()


def test_files_are_overwritten_only_with_permission(published: Path, converted: Path):
    before = (converted / NAMES[0]).read_bytes()
    with pytest.raises(
        FileExistsError, match="already holds denoising_unet.safetensors, appearance_net.+allow"
    ):
        convert(published, converted, torch.float16, config=GOLDEN_CONFIG)
    assert (converted / NAMES[0]).read_bytes() == before
    convert(published, converted, torch.float16, config=GOLDEN_CONFIG, overwrite=True)
    assert load_model(converted).dtype == torch.float16


def test_files_are_never_converted_onto_themselves(converted: Path):
    with pytest.raises(FileExistsError, match="among the files to convert; choose another folder"):
        convert(converted, converted, torch.float16, overwrite=True)
    assert load_model(converted).dtype == torch.float32


def test_converting_inside_the_folder_of_published_files(published_pth: Path):
    expected = load_model(published_pth, config=GOLDEN_CONFIG)
    convert(published_pth, published_pth, config=GOLDEN_CONFIG)
    for path in published_pth.glob("*.pth"):
        path.unlink()
    assert describe_missing(published_pth) == ""
    assert_same_weights(load_model(published_pth), expected)


def test_stopping_leaves_no_broken_file(published: Path, tmp_path: Path):
    def stop(done: int, total: int) -> None:
        if done == 1300:  # inside the second network
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(published, tmp_path / "one", config=GOLDEN_CONFIG, on_step=stop)
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["denoising_unet.safetensors"]


def test_a_full_disk_is_one_sentence(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_files.os, "fsync", full)
    with pytest.raises(OSError, match="cannot be written .+No space left.+choose another folder"):
        convert(published, tmp_path / "one", config=GOLDEN_CONFIG)
    assert list((tmp_path / "one").iterdir()) == []


def test_published_and_converted_files_mix(published: Path, converted: Path):
    expected = load_model(published, config=GOLDEN_CONFIG)
    (published / "reference_unet.safetensors").unlink()
    (converted / "appearance_net.safetensors").rename(published / "appearance_net.safetensors")
    assert_same_weights(load_model(published), expected)


def test_a_model_of_fewer_maps_needs_fewer_files(converted: Path):
    config = changed(GOLDEN_CONFIG, maps=("depth",))
    full = load_model(converted)
    networks = {
        "denoising_unet": full.denoising_unet,
        "appearance_net": full.appearance_net,
        "guidance_encoder_depth": full.guidance_encoders["depth"],
    }
    folder = converted.parent / "one_map"
    for role, network in networks.items():
        write_network(folder / f"{role}.safetensors", network, role, config)
    assert describe_missing(folder) == ""
    assert list(load_model(folder).guidance_encoders) == ["depth"]


def test_a_network_in_training_is_written_and_replaced(tmp_path: Path):
    network = nn.Linear(3, 2)
    path = tmp_path / "runs" / "guidance_encoder_depth.safetensors"
    for step in ("1", "2"):
        write_network(path, network, "guidance_encoder_depth", GOLDEN_CONFIG, {"step": step})
    assert torch.equal(load_file(path)["weight"], network.weight)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["header"])["notes"] == {"step": "2"}
    assert [p.name for p in path.parent.iterdir()] == [path.name]
