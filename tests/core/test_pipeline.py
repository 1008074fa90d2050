"""The diffusion half against the released pipeline's outputs (tests/golden/pipeline_io.safetensors).

20 frames, 3 steps, CFG 3.5, windows 0..11 and 11..19, 0, 1, 2; small_*: the first 5 frames, 2 steps. The
networks are the golden ones (toy size, random weights); maps of 32x48 and a portrait of 150x200 pixels are
resampled to 128x192 on the way, as released.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden_model import GOLDEN, golden_model
from safetensors.torch import load_file
from torch import Tensor

from magicportrait_core.autoencoder import Autoencoder, load_vae
from magicportrait_core.guidance import GuidanceMaps
from magicportrait_core.media.image import from_levels
from magicportrait_core.models.model import MagicPortraitModel
from magicportrait_core.pipeline import ReenactOptions, animate, decode_clip
from magicportrait_core.reference import resize_portrait

SIZE = (192, 128)
RELEASED = ReenactOptions(steps=3, plan="released", round_tokens=True, shorter_side=128, windows_per_batch=1)
LATENTS, PIXELS = 3e-4, 2e-3  # the golden set's tolerances


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "pipeline_io.safetensors")


@pytest.fixture(scope="module")
def model(golden) -> MagicPortraitModel:
    return replace(golden_model(), text=golden["text"].float())


@pytest.fixture(scope="module")
def vae(tmp_path_factory) -> Autoencoder:
    folder = tmp_path_factory.mktemp("vae")
    write_golden_vae(folder)
    return load_vae(folder)


def write_golden_vae(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.safetensors").write_bytes((GOLDEN / "vae.safetensors").read_bytes())
    config = {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [8, 8, 8, 8],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
    }
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def maps(golden) -> GuidanceMaps:
    levels = [golden[f"guidance_images.{name}"].movedim(-1, 1) for name in ("depth", "normal", "render")]
    return GuidanceMaps(*levels, flags=torch.ones_like(levels[0][:, :1]))


@pytest.fixture(scope="module")
def portrait(golden) -> Tensor:  # (3, 192, 128); the released pipeline stretches whatever it is given
    return resize_portrait(from_levels(golden["ref_image"]), SIZE)


@pytest.mark.parametrize(
    ("rounded", "expected"), [(True, "latents_step2"), (False, "final_latents_bank_fp32")]
)
def test_the_released_pipeline_is_reproduced(golden, model, vae, maps, portrait, rounded, expected):
    options = replace(RELEASED, round_tokens=rounded)
    latents = animate(portrait, maps, model, vae, options=options, noise=golden["init_latents"][0])
    assert (latents - golden[expected][0]).abs().max() < LATENTS
    if rounded:
        frames = list(decode_clip(latents[:, [0, 19]], model, vae))
        shown = (torch.stack(frames, 1) + 1) / 2
        assert (shown - golden["video_frames_0_19"][0].float()).abs().max() < PIXELS


def test_a_clip_of_one_window(golden, model, vae, maps, portrait):
    options = replace(RELEASED, steps=2)
    latents = animate(portrait, maps[:5], model, vae, options=options, noise=golden["small_init"][0])
    assert (latents - golden["small_final_latents"][0]).abs().max() < LATENTS


def test_without_cfg_overlaps_are_averaged_and_not_summed(golden, model, vae, maps, portrait):
    # In one step from pure noise the clean latents are -v. The released code forgot to divide by coverage.
    coverage = torch.ones(20)
    coverage[[0, 1, 2, 11]] = 2
    summed = golden["nocfg_noise_pred_step0"][0]
    options = replace(RELEASED, steps=1, guidance_scale=1)
    latents = animate(portrait, maps, model, vae, options=options, noise=golden["init_latents"][0])
    assert (latents + summed / coverage[:, None, None]).abs().max() < LATENTS
