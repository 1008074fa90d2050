"""Files that cannot be used: one sentence each, naming the file, what is wrong and what to do."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from golden_model import GOLDEN_CONFIG, golden_state, split_motion
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from magicportrait_core.checkpoints.loading import load_model
from magicportrait_core.checkpoints.presets import describe_missing
from magicportrait_core.models.config import ModelConfig

Replace = Callable[..., Path]
CODE_RAN = "CODE_RAN"


def refusal(folder: Path, **options) -> str:
    """The message with which the folder is refused."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load_model(folder, **({"config": GOLDEN_CONFIG} | options))
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_says(message: str, *parts: str) -> None:
    """All parts, in this order."""
    assert re.search(".*".join(map(re.escape, parts)), message), message


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
        "weimengting/MagicPortrait links",
        "licence: Apache-2.0 on the page of the weights; the code repository states none",
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


# --- in the wrong place ---


def swap(folder: Path, first: str, second: str) -> None:
    (folder / first).rename(folder / "third")
    (folder / second).rename(folder / first)
    (folder / "third").rename(folder / second)


def test_denoising_and_reference_swapped(published: Path):
    swap(published, "denoising_unet.safetensors", "reference_unet.safetensors")
    assert_says(
        refusal(published),
        "denoising_unet.safetensors does not fit the Denoising UNet: it lacks 4 tensors, the first is",
        "'conv_norm_out.",
        "it seems to hold a UNet without output layers (an AppearanceNet, published as reference_unet)",
        "use the published denoising_unet.pth in its place",
    )


def test_denoising_unet_in_the_place_of_reference_unet(published: Path, replace: Replace):
    replace("reference_unet", golden_state("denoising_unet"))
    assert_says(
        refusal(published),
        "reference_unet.pth does not fit the AppearanceNet: it has",
        "it seems to hold a Denoising UNet with motion modules",
        "use the published reference_unet.pth",
    )


@pytest.mark.parametrize("stem", ["denoising_unet", "reference_unet"])
def test_a_guidance_encoder_in_the_place_of_a_unet(published: Path, replace: Replace, stem: str):
    replace(stem, golden_state("guidance_encoder_depth"))
    assert_says(
        refusal(published),
        f"{stem}.pth does not fit",
        "its 'conv_in.bias' is 16, expected 32",
        "it seems to hold a guidance encoder (GGE)",
        f"use the published {stem}.pth",
    )


def test_a_unet_in_the_place_of_a_guidance_encoder(published: Path, replace: Replace):
    replace("guidance_encoder_render", golden_state("reference_unet"))
    assert_says(
        refusal(published),
        "guidance_encoder_render.pth does not fit the guidance encoder of the render maps",
        "seems to hold a UNet without output layers",
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_one_guidance_encoder_under_two_names(published: Path, published_files: Path, suffix: str):
    (published / "guidance_encoder_normal.safetensors").unlink()
    copy = published / f"guidance_encoder_normal{suffix}"
    shutil.copy(published_files / f"guidance_encoder_depth{suffix}", copy)
    assert_says(
        refusal(published),
        f"guidance_encoder_depth.safetensors and guidance_encoder_normal{suffix} hold the same weights",
        "get guidance_encoder_depth.pth and guidance_encoder_normal.pth again",
    )


def test_one_unet_under_two_names(published: Path):
    (published / "reference_unet.safetensors").unlink()
    names = ("denoising_unet.safetensors", "reference_unet.safetensors")
    shutil.copy(*(published / name for name in names))  # without motion modules
    assert_says(refusal(published), f"{names[0]} and {names[1]} hold the same weights")


def test_depth_and_normal_exchanged_cannot_be_seen(published: Path):
    swap(published, "guidance_encoder_depth.safetensors", "guidance_encoder_normal.safetensors")
    model = load_model(published, config=GOLDEN_CONFIG)  # as load_model's docstring says
    expected = golden_state("guidance_encoder_normal")["conv_in.weight"]
    assert torch.equal(model.guidance_encoders["depth"].conv_in.weight, expected)


# --- of another size or kind ---


@pytest.mark.parametrize(("width", "family"), [(1024, "SD 2"), (2048, "SDXL")])
@pytest.mark.parametrize("stem", ["denoising_unet", "reference_unet"])
def test_a_unet_of_another_family(published: Path, replace: Replace, stem: str, width: int, family: str):
    state, _ = split_motion(golden_state(stem))
    for name in state:
        if ".attn2.to_k." in name or ".attn2.to_v." in name:
            state[name] = torch.zeros(state[name].shape[0], width)
    replace(stem, state)
    assert_says(
        refusal(published),
        f"{stem}.pth does not fit",
        f"x {width}, expected",
        "x 16",
        f"for texts of width {width} ({family})",
        f"use the published {stem}.pth",
    )


def test_the_toy_is_no_model_of_sd_15_size(published: Path):
    message = refusal(published, config=None)
    assert_says(message, "denoising_unet.safetensors does not fit", "is 32, expected 320")


def motion_state(frames: int = 32, mid_block: bool = True) -> dict[str, torch.Tensor]:
    _, motion = split_motion(golden_state("denoising_unet"))
    return {
        name: value[:, :frames].clone() if name.endswith(".pe") else value
        for name, value in motion.items()
        if mid_block or not name.startswith("mid_block.")
    }


def test_motion_modules_of_animatediff_1(published: Path, replace: Replace):
    replace("motion_module-47360", motion_state(frames=24, mid_block=False))
    assert_says(
        refusal(published),
        "motion_module-47360.pth does not fit the motion modules: its 'down_blocks.",
        "is 1 x 24 x",
        "expected 32 frames",
        "motion modules (AnimateDiff) for 24 frames without a mid block",
        "use the published motion_module-47360.pth",
    )


def test_motion_modules_of_animatediff_3(published: Path, replace: Replace):
    replace("motion_module-47360", motion_state(mid_block=False))
    assert_says(
        refusal(published),
        "motion_module-47360.pth does not fit the motion modules: it lacks 26 tensors, the first is",
        "'mid_block.motion_modules.0.",
        "motion modules (AnimateDiff) for 32 frames without a mid block",
    )


def test_another_table_of_positions(published: Path, replace: Replace):
    motion = motion_state()
    name = next(name for name in motion if name.endswith(".pe"))
    motion[name] = motion[name].roll(1, dims=1)
    replace("motion_module-47360", motion)
    assert_says(
        refusal(published),
        f"{name!r} in motion_module-47360.pth is not the sinusoidal table",
        "use the published",
    )


def test_the_whole_unet_in_the_place_of_the_motion_file(published: Path, replace: Replace):
    replace("motion_module-47360", golden_state("denoising_unet"))
    assert_says(
        refusal(published),
        "motion_module-47360.pth does not fit the motion modules: it has 686 tensors too many",
    )


FOREIGN = {
    "a LoRA": {
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 32),
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight": (32, 4),
    },
    "a whole checkpoint in Stable Diffusion's own layout": {
        "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
        "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
    },
    "a CLIP text encoder": {"text_model.embeddings.position_embedding.weight": (77, 768)},
    "weights of an unknown kind": {"layers.0.weight": (2, 2)},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file(published: Path, replace: Replace, kind: str):
    replace("denoising_unet", {name: torch.zeros(shape) for name, shape in FOREIGN[kind].items()})
    assert_says(
        refusal(published),
        "denoising_unet.pth does not fit the Denoising UNet: it has",
        "tensors too many, the first is",
        f"it seems to hold {kind}",
        "use the published denoising_unet.pth",
    )


def test_a_vae(published: Path, replace: Replace):
    replace("reference_unet", golden_state("vae"))
    assert_says(
        refusal(published), "reference_unet.pth does not fit the AppearanceNet", "seems to hold a VAE"
    )


def test_one_tensor_too_few_or_too_many(published: Path, replace: Replace):
    state = golden_state("reference_unet")
    missing = state.pop("mid_block.resnets.1.conv2.bias")
    replace("reference_unet", state)
    assert_says(refusal(published), "it lacks 1 tensors, the first is 'mid_block.resnets.1.conv2.bias'")
    state |= {"mid_block.resnets.1.conv2.bias": missing, "mid_block.resnets.1.conv3.bias": missing}
    replace("reference_unet", state)
    assert_says(
        refusal(published), "it has 1 tensors too many, the first is 'mid_block.resnets.1.conv3.bias'"
    )


# --- converted files ---


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
