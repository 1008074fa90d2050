"""The released recipe at toy size: SD 1.5, a VAE and a text in files, both phases, what comes of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from toy_model import TOY, randomise

from magicportrait_core.checkpoints.content import MOTION
from magicportrait_core.checkpoints.loading import load_model

LIKE_RELEASED = replace(TOY, name="like_released", maps=("depth", "normal"), side=64, window=4)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder as SD 1.5's, with its text as an embedding, and the model's sizes."""
    folder, random = tmp_path_factory.mktemp("files"), torch.Generator().manual_seed(0)
    size = LIKE_RELEASED.unet
    unet = UNet2DConditionModel(
        block_out_channels=size.block_out_channels,
        layers_per_block=size.layers_per_block,
        cross_attention_dim=size.text_dim,
        attention_head_dim=size.heads,
        norm_num_groups=size.norm_groups,
    )
    randomise(unet, random).save_pretrained(folder / "sd15/unet")
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        scaling_factor=LIKE_RELEASED.latent_scale,
    )
    vae.save_pretrained(folder / "sd15/vae")
    save_file({"text": torch.randn(1, 77, 768, generator=random)}, folder / "text.safetensors")
    (folder / "sizes.json").write_text(json.dumps(LIKE_RELEASED.to_json()))
    return folder


@pytest.fixture
def options(files):
    return {
        "model.config": files / "sizes.json",
        "model.vae": files / "sd15",
        "objective.kind": "v",
        "objective.reference_dropout": 0.5,
        "optimizer.decay": "constant",
        "compute.checkpointing": "true",
        "compute.accumulate": 2,
        "run.steps": 2,
        "validation.rows": 2,
        "validation.pictures": 1,
        "validation.steps": "[2]",
    }


def test_both_phases_from_released_files(files, options, tmp_path, drawn_store, arguments_of, train):
    more = ["--validate", drawn_store]
    first = options | {"model.start": files / "sd15", "model.text": files / "text.safetensors"}
    assert train("appearance", arguments_of(drawn_store, tmp_path / "one", first, *more)) == 0
    model = load_model(tmp_path / "one/model")
    start = UNet2DConditionModel.from_pretrained(files / "sd15/unet").state_dict()
    for network in (model.appearance_net, model.denoising_unet):
        moved = [
            (value - start[name]).abs().max().item()
            for name, value in network.state_dict().items()
            if MOTION not in name
        ]
        assert 0 < max(moved) < 0.01  # two small steps away from SD 1.5
    second = options | {"data.window": 4, "model.start": tmp_path / "one/model"}
    assert train("motion", arguments_of(drawn_store, tmp_path / "two", second, *more)) == 0
    result = load_model(tmp_path / "two/model")
    assert result.config == LIKE_RELEASED and torch.equal(result.text, model.text)
    assert (tmp_path / "two/validation/step_000002.png").is_file()


@pytest.mark.parametrize("missing", ["model.vae", "model.text"])
def test_files_that_are_needed_are_asked_for(
    files, options, tmp_path, drawn_store, arguments_of, train, capsys, missing
):
    given = options | {"model.text": files / "text.safetensors"}
    del given[missing]
    assert train("appearance", arguments_of(drawn_store, tmp_path / "run", given)) == 1
    assert f"error: {missing} is missing" in capsys.readouterr().err
