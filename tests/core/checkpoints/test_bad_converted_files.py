"""Converted files whose header is missing, damaged, of a newer pack, or of another place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from refusals import assert_says, refusal, swap
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from magicportrait_core.models.config import ModelConfig


def rewrite(path: Path, metadata: dict[str, str] | None) -> None:
    """The same tensors under another header."""
    tensors = load_file(path)
    path.unlink()
    save_file(tensors, path, metadata)


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.mark.parametrize("role", ["denoising_unet", "appearance_net"])
def test_a_converted_file_without_header(converted: Path, role: str):
    rewrite(converted / f"{role}.safetensors", None)
    assert_says(
        refusal(converted),
        f"{role}.safetensors has the name or the tensors of a converted file but no header",
        "convert the published files again",
    )


def test_a_converted_file_of_a_newer_version(converted: Path):
    path = converted / "appearance_net.safetensors"
    rewrite(path, metadata_of(path) | {"version": "2"})
    assert_says(
        refusal(converted),
        "appearance_net.safetensors is a converted network of version 2, this pack reads version 1; update",
    )


@pytest.mark.parametrize(
    "header", ["", "{}", '{"role": "denoising_unet", "config": {"later": 1}, "notes": {}}']
)
def test_a_converted_file_with_a_damaged_header(converted: Path, header: str):
    path = converted / "denoising_unet.safetensors"
    rewrite(path, metadata_of(path) | {"header": header})
    assert_says(refusal(converted), "the header of denoising_unet.safetensors is damaged or of a newer pack")


def test_converted_guidance_encoders_know_their_maps(converted: Path):
    swap(converted, "guidance_encoder_depth.safetensors", "guidance_encoder_normal.safetensors")
    assert_says(
        refusal(converted),
        "guidance_encoder_depth.safetensors says in its header that it is guidance_encoder_normal, but",
        "give it its name back",
    )


def test_converted_files_of_two_models(converted: Path):
    path = converted / "appearance_net.safetensors"
    metadata = metadata_of(path)
    values = json.loads(metadata["header"])
    values["config"] |= {"name": "other", "window": 16}
    rewrite(path, metadata | {"header": json.dumps(values)})
    assert ModelConfig.from_json(values["config"]).window == 16
    assert_says(
        refusal(converted, config=None),
        "denoising_unet.safetensors belongs to the model 'golden' and appearance_net.safetensors to 'other'",
        "put the files of one model into the folder",
    )


def test_a_stored_prompt_of_another_width(converted: Path):
    path = converted / "denoising_unet.safetensors"
    metadata = metadata_of(path)
    tensors = load_file(path) | {"text_embedding": torch.zeros(1, 77, 768)}
    path.unlink()
    save_file(tensors, path, metadata)
    assert_says(
        refusal(converted), "'text_embedding' in denoising_unet.safetensors is 1 x 77 x 768, expected 1 x"
    )
