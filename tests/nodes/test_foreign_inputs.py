"""VAE and CONDITIONING of other nodes: what the sampler takes of them, and what it says of the unfit."""

from types import SimpleNamespace

import comfy.sd
import pytest
import torch
from magicportrait_pack.nodes import foreign_inputs
from toy_model import TOY, TOY_SMALL, randomise
from toy_render import PORTRAIT, TEXT, TOKENS, random, taesd, toy_model


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return taesd(tmp_path_factory.mktemp("vae"), "taesd", 4)


def test_the_stored_embedding_is_used_when_nothing_is_connected():
    text = random(1, TOKENS, 16)
    assert foreign_inputs.text_embedding(None, toy_model(text)) is text


@pytest.mark.parametrize(
    ("conditioning", "words"),
    [
        (None, "conditioning is not connected, and no text embedding is stored with the model 'toy'"),
        ([], "conditioning has 0 entries, expected one"),
        (TEXT * 2, "conditioning has 2 entries, expected one"),
        (
            [[random(1, TOKENS, 2048), {}]],
            r"the shape \(1, 7, 2048\), which is that of SDXL; the model needs",
        ),
        ([[random(1, TOKENS, 4096), {}]], "which is that of Flux"),
        ([[random(2, TOKENS, 16), {}]], r"the shape \(2, 7, 16\); the model needs \(1, tokens, 16\)"),
        ([[random(1, TOKENS, 16) * float("nan"), {}]], "conditioning holds values that are not finite"),
    ],
)
def test_conditioning_of_others_is_explained(conditioning, words):
    with pytest.raises(ValueError, match=words) as error:
        foreign_inputs.text_embedding(conditioning, toy_model())
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_a_vae_of_another_family_is_named(tmp_path):
    other = taesd(tmp_path, "taesd3", 16)
    with pytest.raises(ValueError, match=r"latents of 16 channels and 8 pixels a cell \(as of SD3, Flux"):
        foreign_inputs.check_vae(other, TOY)


@pytest.mark.parametrize("vae", [None, SimpleNamespace(first_stage_model=None)])
def test_no_vae_is_named(vae):
    with pytest.raises(ValueError, match="vae is not connected, or the checkpoint .* the model 'toy' needs"):
        foreign_inputs.check_vae(vae, TOY)


def test_models_of_pixels_need_no_vae_and_look_at_none(vae):
    pixels = PORTRAIT[:, :64, :96]
    for given in (None, vae):
        foreign_inputs.check_vae(given, TOY_SMALL)
        latents = foreign_inputs.encode_portrait(given, pixels, TOY_SMALL)
        assert latents.shape == (1, 48, 16, 24)
        torch.testing.assert_close(latents[0, :16, 2, 5], pixels[0, 8:12, 20:24].reshape(-1))
    assert foreign_inputs.vae_fingerprint(vae, TOY_SMALL) == foreign_inputs.vae_fingerprint(None, TOY_SMALL)


def test_conditioning_for_a_model_that_brings_its_own_is_explained():
    own = torch.zeros(1, 1, 16)
    with pytest.raises(ValueError, match="brings its own text embedding along: disconnect conditioning"):
        foreign_inputs.text_embedding([[random(1, 77, 768), {}]], toy_model(own))


def test_a_vae_that_overflows_is_explained(vae, monkeypatch):
    monkeypatch.setattr(vae, "encode", lambda image: torch.full((1, 4, 8, 8), float("inf")))
    with pytest.raises(ValueError, match="not finite: start ComfyUI with --fp32-vae"):
        foreign_inputs.encode_portrait(vae, PORTRAIT[:, :64, :64], TOY)


def test_the_toy_vae_encodes_the_portrait_in_the_networks_scale(vae):
    pixels = torch.full((3, 64, 64), 0.5)  # 0.75 in [0, 1]
    latents = foreign_inputs.encode_portrait(vae, pixels, TOY)
    torch.testing.assert_close(latents, torch.full((1, 4, 8, 8), 4 * (0.75 - 0.5)), rtol=0, atol=1e-3)


def test_the_host_encodes_the_mean_of_the_latents():
    sizes = {"double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32}
    sizes |= {"ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
    vae = comfy.sd.VAE(sd={}, config={"params": {"ddconfig": sizes, "embed_dim": 4}}, dtype=torch.float32)
    network = randomise(vae.first_stage_model, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        latents = foreign_inputs.encode_portrait(vae, PORTRAIT[:, :64, :128], TOY)
        moments = network.quant_conv(network.encoder(PORTRAIT[None, :, :64, :128]))
    assert moments.shape == (1, 8, 8, 16) and latents.std() > 0.01
    torch.testing.assert_close(latents, moments[:, :4] * TOY.latent_scale)
