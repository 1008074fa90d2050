"""Files of another network, size or program: one sentence with file, tensor and what it seems to be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from golden_model import GOLDEN_CONFIG, golden_state, split_motion
from refusals import assert_says, refusal, swap

from magicportrait_core.checkpoints.loading import load_model

Replace = Callable[..., Path]


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
