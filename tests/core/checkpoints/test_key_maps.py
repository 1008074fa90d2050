"""The tables cover the released files at SD 1.5 size, tensor by tensor; nothing is allocated."""

from __future__ import annotations

import gzip
import json
import math

import pytest
from golden_model import GOLDEN

from magicportrait_core.checkpoints.key_maps import (
    APPEARANCE_NET,
    DENOISING_UNET,
    GUIDANCE_ENCODER,
    POSITIONS,
    KeyMap,
)
from magicportrait_core.checkpoints.opening import Networks
from magicportrait_core.models.config import SD15

Shapes = dict[str, tuple[int, ...]]


@pytest.fixture(scope="module")
def layout() -> dict[str, Shapes]:
    """Names and shapes of the released classes at SD 1.5 size (facts c)."""
    stored = json.loads(gzip.decompress((GOLDEN / "checkpoint_layout.json.gz").read_bytes()))
    return {file: {name: tuple(shape) for name, shape in shapes.items()} for file, shapes in stored.items()}


@pytest.fixture(scope="module")
def networks() -> dict[str, Shapes]:
    modules = Networks.empty(SD15).by_role()
    return {
        role: {name: tuple(value.shape) for name, value in module.state_dict().items()}
        for role, module in modules.items()
    }


@pytest.mark.parametrize(
    ("file", "role", "key_map", "read", "unused"),
    [
        ("denoising_unet", "denoising_unet", DENOISING_UNET, 1232, 42),
        ("reference_unet", "appearance_net", APPEARANCE_NET, 662, 20),
        ("guidance_encoder", "guidance_encoder_depth", GUIDANCE_ENCODER, 35, 114),
        ("guidance_encoder", "guidance_encoder_normal", GUIDANCE_ENCODER, 35, 114),
        ("guidance_encoder", "guidance_encoder_render", GUIDANCE_ENCODER, 35, 114),
    ],
)
def test_every_released_tensor_is_read_or_named_unused(
    layout: dict[str, Shapes],
    networks: dict[str, Shapes],
    file: str,
    role: str,
    key_map: KeyMap,
    read: int,
    unused: int,
):
    released = layout[file]
    translated = {ours: released[name] for ours, name in key_map.names(released).items()}
    assert translated == networks[role]
    assert len(translated) == read
    assert sum(key_map.name(name) is None for name in released) == unused
    assert read + unused == len(released)  # no two names become one


def test_sizes_are_those_of_the_paper(networks: dict[str, Shapes]):
    sizes = {role: sum(math.prod(s) for s in shapes.values()) for role, shapes in networks.items()}
    assert sizes["denoising_unet"] == 1_312_730_244
    assert sizes["appearance_net"] == 859_508_800 - 2_442_240
    assert sizes["guidance_encoder_depth"] == 2_270_736


def test_motion_modules_are_renamed_as_diffusers_names_them():
    block = "mid_block.motion_modules.0.temporal_transformer.transformer_blocks.0."
    names = {
        "attention_blocks.0.to_q.weight": "attn1.to_q.weight",
        "attention_blocks.1.to_out.0.bias": "attn2.to_out.0.bias",
        "norms.0.weight": "norm1.weight",
        "norms.1.bias": "norm2.bias",
        "ff_norm.weight": "norm3.weight",
        "ff.net.0.proj.weight": "ff.net.0.proj.weight",
    }
    for released, ours in names.items():
        expected = f"mid_block.motion_modules.0.transformer_blocks.0.{ours}"
        assert DENOISING_UNET.name(block + released) == expected


def test_each_reason_for_leaving_tensors_out_concerns_some(layout: dict[str, Shapes]):
    head = {"conv_norm_out.*", "conv_out.*"}  # in files of a whole UNet
    for key_map, file in (
        (DENOISING_UNET, "denoising_unet"),
        (APPEARANCE_NET, "reference_unet"),
        (GUIDANCE_ENCODER, "guidance_encoder"),
    ):
        for pattern, reason in key_map.unused:
            alone = KeyMap(unused=((pattern, reason),))
            used = any(alone.name(name) is None for name in layout[file])
            assert used or pattern in head, pattern
            assert len(reason) > 10
    assert DENOISING_UNET.unused[0][0] == POSITIONS
