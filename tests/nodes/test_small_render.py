"""The nodes of the built-in model in this process, on a toy model: results, and words for bad inputs."""

from dataclasses import replace

import pytest
import torch
from magicportrait_pack.magicportrait_core.diffusion.aggregation import merge_segments
from magicportrait_pack.magicportrait_core.face_view import FaceView, ViewedMaps, ViewedWarp
from magicportrait_pack.magicportrait_core.guidance import GuidanceMaps
from magicportrait_pack.magicportrait_core.models.initial import new_networks
from magicportrait_pack.magicportrait_core.models.model import MagicPortraitModel
from magicportrait_pack.magicportrait_core.pipeline import animate, decode_clip
from magicportrait_pack.magicportrait_core.render_options import ReenactOptions
from magicportrait_pack.magicportrait_core.warp.sources import OUTSIDE
from magicportrait_pack.magicportrait_core.warped_portrait import WarpedPortrait
from magicportrait_pack.nodes import aggregation, decoding, motion, patchers, render, sampling
from toy_model import TOY_SMALL, randomise
from toy_render import random, taesd, toy_model

FRAMES = 8  # two windows of 6
SIZE = (120, 160)  # height, width of the portrait
VIEW = FaceView(top=8, left=40, size=(100, 100), picture=SIZE)
PORTRAIT = random(1, *SIZE, 3)  # the host's IMAGE


def small_model() -> MagicPortraitModel:
    generator, networks = torch.Generator().manual_seed(0), new_networks(TOY_SMALL)
    parts = networks.appearance_net, networks.denoising_unet, networks.guidance_encoders
    for network in parts:
        randomise(network, generator).eval().requires_grad_(False)
    return MagicPortraitModel(TOY_SMALL, *parts, torch.zeros(1, 1, 16), "toy", "toy_small")


def levels(*shape: int) -> torch.Tensor:
    return (random(*shape) * 255).to(torch.uint8)


def maps(frames: int = FRAMES, size=SIZE) -> GuidanceMaps:
    parts = [levels(frames, channels, *size) for channels in (1, 3, 3)]
    return GuidanceMaps(*parts, torch.ones(frames, 1, *size, dtype=torch.uint8))


def warp(frames: int = FRAMES, view: FaceView = VIEW) -> ViewedWarp:
    still = (PORTRAIT[0] * 255).round().to(torch.uint8).movedim(-1, 0)
    labels = torch.full((frames, 1, *SIZE), OUTSIDE, dtype=torch.uint8)
    labels[:, :, 40:90, 60:120] = 0
    return ViewedWarp(WarpedPortrait(still, levels(frames, 3, *SIZE), labels, torch.zeros(frames)), view)


@pytest.fixture(scope="module")
def model():
    return patchers.host_model(small_model())


def encoded(model, guidance=None, warped=None, **widgets):
    with torch.inference_mode():  # as nodes run
        (features,) = motion.EncodeGuidance.execute(
            model, guidance or maps(), warp=warped or warp(), **widgets
        ).result
    return features


@pytest.fixture(scope="module")
def features(model):
    return encoded(model)


def sampled(model, features, portrait=PORTRAIT, **widgets):
    with torch.inference_mode():
        output = sampling.Sampler.execute(model, portrait, features, seed=42, save_every=0, **widgets)
    return output.result[0]


def decoded(model, latent, **links):
    with torch.inference_mode():
        return decoding.DecodePortrait.execute(latent, model, **links).result


@pytest.fixture(scope="module")
def latent(model, features):
    return aggregation.TemporalAggregate.execute({"segments0": sampled(model, features)}).result[0]


def test_the_nodes_give_what_the_library_gives(model, latent):
    portrait = PORTRAIT[0].movedim(-1, 0) * 2 - 1
    expected = animate(
        VIEW.cut(portrait), ViewedMaps(maps(), VIEW), small_model(), warped=warp(), options=ReenactOptions()
    )
    assert latent["samples"].shape == (FRAMES, 48, 16, 16) and expected.std() > 0.1
    torch.testing.assert_close(latent["samples"].movedim(0, 1), expected, rtol=0, atol=1e-5)
    image, report = decoded(model, latent, warp=warp())
    frames = list(warp().paste(decode_clip(expected, small_model(), warped=warp())))
    torch.testing.assert_close(image, torch.stack(frames).movedim(1, -1) / 2 + 0.5, rtol=0, atol=1e-5)
    assert "8 frames of 160x120 pixels" in report and "in the 100x100 pixels around the face" in report
    assert "which the model sees at 64x64" in report


def test_outside_the_view_the_picture_is_the_warp(model, latent):
    image, _ = decoded(model, latent, warp=warp())
    plain = warp().warped.warp_levels.movedim(1, -1) / 255
    inside = torch.zeros(SIZE, dtype=torch.bool)
    inside[8:108, 40:140] = True
    torch.testing.assert_close(image[:, ~inside], plain[:, ~inside], rtol=0, atol=1e-5)
    assert (image - plain)[:, 40:90, 60:120].abs().mean() > 1e-3  # the head, which the model corrects


def test_maps_of_another_size_are_looked_at_in_the_same_place(model):
    half = maps(size=(60, 80))
    features = encoded(model, half)
    assert features.size == (16, 16) and features.view == VIEW
    assert motion.seen_maps(half, TOY_SMALL, warp()).size == (50, 50)


def test_a_chosen_size_is_the_one_the_model_works_at(model):
    assert encoded(model, size=96).size == (24, 24)
    assert encoded(model, size=0).size == (TOY_SMALL.side // 4, TOY_SMALL.side // 4)


def test_parts_are_one_render(model, features):
    settings = {"coupling": "independent segments", "windows_per_batch": 1}
    alone = sampled(model, features, **settings)
    parts = [sampled(model, features, part=part, parts=2, **settings) for part in (2, 1)]
    assert torch.equal(merge_segments(parts), merge_segments([alone]))


def test_a_portrait_of_another_size_is_cut_at_the_same_place(features):
    larger = torch.nn.functional.interpolate(PORTRAIT.movedim(-1, 1), scale_factor=2, mode="nearest")
    seen = render.seen_portrait(larger[0] * 2 - 1, features)
    assert torch.equal(seen[:, ::2, ::2], VIEW.cut(PORTRAIT[0].movedim(-1, 0)) * 2 - 1)


def test_the_vae_of_another_model_is_not_looked_at(model, features, latent, tmp_path):
    vae = taesd(tmp_path, "taesd3", 16)
    segments = sampled(model, features, vae=vae)
    torch.testing.assert_close(merge_segments([segments]), latent["samples"].movedim(0, 1))
    assert torch.equal(
        decoded(model, latent, warp=warp(), vae=vae)[0], decoded(model, latent, warp=warp())[0]
    )


def test_no_warp(model, latent):
    with pytest.raises(
        ValueError, match="starts from the portrait moved by the flow warp, .* connect the warp"
    ):
        motion.EncodeGuidance.execute(model, maps())
    with pytest.raises(
        ValueError, match="warp is not connected, and the model 'toy_small' corrects the flow-w"
    ):
        decoded(model, latent)


def test_warp_of_another_clip(model, latent):
    with pytest.raises(
        ValueError, match="warped portrait has 7 frames, the guidance 8; make both from the same"
    ):
        encoded(model, warped=warp(7))
    with pytest.raises(
        ValueError, match="warp has 7 frames and latent 8: connect the warp output of Flow Warp"
    ):
        decoded(model, latent, warp=warp(7))


def test_warp_of_another_portrait(model, features, latent):
    with pytest.raises(
        ValueError, match="guidance is 160x160 and the warped portrait 160x120 pixels, .* aspect"
    ):
        encoded(model, maps(size=(160, 160)))
    with pytest.raises(
        ValueError, match="warp is 60x100 pixels and latent was made at 64x64, which is another"
    ):
        decoded(model, latent, warp=warp(view=replace(VIEW, size=(100, 60))))
    with pytest.raises(ValueError, match="not the picture that was warped .* use one portrait for the track"):
        sampled(model, features, portrait=PORTRAIT.flip(2))
    with pytest.raises(
        ValueError, match="guidance is 160x120 and the portrait 160x160 pixels, .* another aspect"
    ):
        sampled(model, features, portrait=random(1, 160, 160, 3))


def test_latents_of_another_model(model, latent):
    with pytest.raises(
        ValueError, match=r"latent has the shape \(8, 4, 16, 16\), .* 'toy_small' have \(frames, 48"
    ):
        decoded(model, {"samples": torch.zeros(8, 4, 16, 16)}, warp=warp())
    released = patchers.host_model(toy_model())
    with pytest.raises(
        ValueError, match=r"\(8, 48, 16, 16\), those of the model 'toy' have \(frames, 4, height"
    ):
        decoded(released, latent, warp=warp())


def test_features_of_another_model(model, features):
    released = patchers.host_model(toy_model(torch.zeros(1, 1, 16)))
    with pytest.raises(
        ValueError, match="have the warped portrait, those of the model 'toy' lack it; encode"
    ):
        render.sampling_size((100, 100), features, released.model, ReenactOptions())
    plain = replace(features, prior=None, view=None)
    with pytest.raises(ValueError, match="lack the warped portrait, those of the model 'toy_small' have it"):
        sampled(model, plain)


def test_a_model_with_a_vae_needs_one_to_decode():
    released = patchers.host_model(toy_model())
    with pytest.raises(
        ValueError, match="vae is not connected, .* and the model 'toy' needs one: load one of"
    ):
        decoded(released, {"samples": torch.zeros(2, 4, 8, 8)})
