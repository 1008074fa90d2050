"""Files that are missing, damaged or unsafe: one sentence each, with what is wrong and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from golden_model import GOLDEN_CONFIG, golden_state, split_motion
from refusals import assert_says, refusal

from magicportrait_core.checkpoints.loading import load_model
from magicportrait_core.checkpoints.presets import describe_missing

Replace = Callable[..., Path]

CODE_RAN = "CODE_RAN"


# --- missing ---


def test_a_folder_that_does_not_exist_lists_every_file(tmp_path: Path):
    folder = tmp_path / "models" / "magicportrait" / "released"
    message = describe_missing(folder)
    assert_says(
        message,
        f"{folder} does not exist; it should hold",
        "denoising_unet.pth (Denoising UNet, about 3.4 GB",
        "motion_module-47360.pth (motion modules, about 1.8 GB",
        "reference_unet.pth (AppearanceNet, about 3.4 GB",
        "guidance_encoder_depth.pth (guidance encoder of the depth maps, about 15 MB",
        "guidance_encoder_normal.pth",
        "guidance_encoder_render.pth",
        "huggingface.co/mengtingwei/MagicPortrait, folder ckpts",
        "licence: Apache-2.0 on that page; the code repository weimengting/MagicPortrait states none",
        f"into {folder}",
        ".safetensors files of these names do as well",
    )
    assert refusal(folder) == message


def test_only_what_is_missing_is_named(published: Path):
    (published / "guidance_encoder_normal.safetensors").unlink()
    (published / "motion_module-47360.safetensors").unlink()
    message = refusal(published)
    assert message == describe_missing(published)
    assert_says(message, f"{published} lacks motion_module-47360.pth", "guidance_encoder_normal.pth", "put")
    for name in ("denoising_unet.pth", "reference_unet.pth", "guidance_encoder_depth.pth"):
        assert name not in message


def test_a_complete_folder_lacks_nothing(published: Path):
    assert describe_missing(published) == ""


def test_a_file_in_place_of_the_folder(published: Path):
    message = refusal(published / "denoising_unet.safetensors")
    assert_says(message, "denoising_unet.safetensors is a file; choose the folder with the model's files")


def test_a_folder_too_high(published: Path):
    message = refusal(published.parent)
    assert_says(message, f"choose {published}, which has a Denoising UNet, or put the files")


def test_a_folder_in_place_of_a_file(published: Path):
    (published / "reference_unet.safetensors").unlink()
    (published / "reference_unet.pth").mkdir()
    assert_says(refusal(published), "lacks reference_unet.pth (AppearanceNet")


def test_two_motion_files(published: Path):
    os.link(published / "motion_module-47360.safetensors", published / "motion_module-10000.safetensors")
    assert_says(
        refusal(published),
        "holds several motion modules: motion_module-10000.safetensors, motion_module-47360.safetensors;",
        "keep one of them",
    )


def test_no_motion_modules_at_all(published: Path, replace: Replace):
    """A denoising_unet with a part of them hides that until it is opened."""
    base, motion = split_motion(golden_state("denoising_unet"))
    some = {name: value for name, value in motion.items() if name.startswith("mid_block.")}
    replace("denoising_unet", base | some)
    (published / "motion_module-47360.safetensors").unlink()
    message = refusal(published)
    assert_says(message, "denoising_unet.pth lacks 520 tensors of motion modules, and", str(published))
    assert_says(message, "lacks motion_module-47360.pth (motion modules, about 1.8 GB", "put the files from")


# --- damaged ---


@pytest.mark.parametrize("stem", ["denoising_unet", "motion_module-47360", "guidance_encoder_render"])
@pytest.mark.parametrize("share", [0.02, 0.99])
def test_a_torch_file_cut_short(published: Path, published_files: Path, stem: str, share: float):
    (published / f"{stem}.safetensors").unlink()
    data = (published_files / f"{stem}.pth").read_bytes()
    (published / f"{stem}.pth").write_bytes(data[: int(share * len(data))])
    message = refusal(published)
    assert_says(message, f"{stem}.pth cannot be read", "may be incomplete: download or copy it again")


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.99])
def test_a_safetensors_file_cut_short(published: Path, share: float):
    path = published / "reference_unet.safetensors"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: int(share * len(data))])
    assert_says(
        refusal(published),
        "reference_unet.safetensors cannot be read",
        "cut short: download or copy it again",
    )


@pytest.mark.parametrize("name", ["denoising_unet.pth", "denoising_unet.safetensors"])
def test_an_empty_file(published: Path, name: str):
    (published / "denoising_unet.safetensors").unlink()
    (published / name).touch()
    assert refusal(published) == f"{name} is empty; download or copy it again"


@pytest.mark.parametrize(
    "content",
    [b"<!DOCTYPE html><html>Sign in</html>", b"version https://git-lfs.github.com/spec/v1\n", bytes(4096)],
    ids=["page", "pointer", "zeros"],
)
def test_something_else_that_was_downloaded(published: Path, content: bytes):
    (published / "reference_unet.safetensors").unlink()
    (published / "reference_unet.pth").write_bytes(content)
    assert_says(
        refusal(published), "reference_unet.pth is no file that torch.save wrote", "a web page", "again"
    )


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(float("nan"), torch.float32), (float("inf"), torch.float16), (float("-inf"), torch.bfloat16)],
)
def test_values_that_are_no_numbers(published: Path, replace: Replace, value: float, dtype: torch.dtype):
    state = golden_state("guidance_encoder_depth")
    state["blocks.2.weight"][0, 0, 0, 0] = value
    replace("guidance_encoder_depth", state)
    message = refusal(published, dtype=dtype)
    assert message == (
        "'blocks.2.weight' in guidance_encoder_depth.pth holds values that are not finite numbers; download "
        "or copy it again"
    )


def test_values_too_large_for_the_chosen_precision(published: Path, replace: Replace):
    state = golden_state("guidance_encoder_depth")
    state["blocks.2.weight"][0, 0, 0, 0] = 1e5
    replace("guidance_encoder_depth", state)
    assert_says(
        refusal(published, dtype=torch.float16),
        "'blocks.2.weight' in guidance_encoder_depth.pth holds 1e+05, too large for float16; choose bfloat16",
    )
    load_model(published, torch.bfloat16, GOLDEN_CONFIG)


def test_dead_weights_may_hold_anything(published: Path, replace: Replace):
    state = golden_state("guidance_encoder_depth")
    state["guidance_attention.proj_in.weight"][:] = float("nan")
    replace("guidance_encoder_depth", state)
    load_model(published, config=GOLDEN_CONFIG)


def test_whole_numbers_are_no_weights(published: Path, replace: Replace):
    state = golden_state("reference_unet")
    state["conv_in.weight"] = state["conv_in.weight"].to(torch.int8)
    replace("reference_unet", state)
    assert_says(
        refusal(published), "'conv_in.weight' in reference_unet.pth is stored as int8", "use a file in"
    )


# --- unsafe ---


class Code:
    """What a hostile file does when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(published: Path, tmp_path: Path, zipped: bool):
    marker = tmp_path / CODE_RAN
    (published / "reference_unet.safetensors").unlink()
    path = published / "reference_unet.pth"
    content = {"conv_in.weight": torch.zeros(1), "x": Code(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = refusal(published)
    assert_says(
        message, "reference_unet.pth holds more than weights (posix.mkdir) and was not opened, since it"
    )
    assert_says(message, "could run code; use the published file")
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the file is what the test says it is


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"conv_in.weight": torch.zeros(1), "epoch": 3}, "holds 'epoch', which is no tensor but int"),
        ([torch.zeros(1)], "holds no named tensors; use the published file"),
        ({}, "holds no tensors; download or copy it again"),
    ],
)
def test_files_that_hold_no_state_dict(published: Path, replace: Replace, content: object, says: str):
    replace("reference_unet", content)
    assert_says(refusal(published), "reference_unet.pth", says)
