"""Warp-preconditioned models from maps to frames: untrained they give the warp itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.toy_model import TOY_SMALL, randomise
from warped_clips import guidance_of, untrained, warped_clip

from magicportrait_core.denoiser import GuidedDenoiser
from magicportrait_core.diffusion.preconditioning import precondition, prior_deviation
from magicportrait_core.diffusion.schedule import noise_levels
from magicportrait_core.models.config import SD15
from magicportrait_core.models.model import MagicPortraitModel
from magicportrait_core.motion_features import MotionFeatures, encode_motion
from magicportrait_core.pipeline import animate, decode_clip
from magicportrait_core.pixel_unshuffle import PixelUnshuffle
from magicportrait_core.render_options import ReenactOptions

FRAMES = 8  # two windows of TOY_SMALL
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def warped():
    return warped_clip(FRAMES)


@pytest.fixture(scope="module")
def maps():
    return guidance_of(FRAMES)


@pytest.fixture(scope="module")
def portrait(warped):
    return warped.portrait / 127.5 - 1


@pytest.fixture(scope="module")
def fresh() -> MagicPortraitModel:
    return untrained(TOY_SMALL)


@pytest.fixture(scope="module")
def trained(fresh) -> MagicPortraitModel:
    """No weight is zero."""
    model = untrained(TOY_SMALL)
    generator = torch.Generator().manual_seed(0)
    for network in (model.appearance_net, model.denoising_unet, model.guidance_encoders):
        randomise(network, generator)
    return model


def features_of(model, maps, warped, **options) -> MotionFeatures:
    return encode_motion(model.guidance_encoders, maps, model.config, (64, 64), warped=warped, **options)


# --- the untrained model is the warp ---


@pytest.mark.parametrize("options", [{}, {"guidance_scale": 3.0}, {"guidance_strength": 0.0}, {"seed": 1}])
def test_one_step_of_an_untrained_model_gives_the_warp_bit_for_bit(fresh, maps, warped, portrait, options):
    latents = animate(portrait, maps, fresh, options=ReenactOptions(**options), warped=warped)
    assert latents.shape == (48, FRAMES, 16, 16)
    expected = warped.warp_levels / 127.5 - 1
    assert torch.equal(torch.stack(list(decode_clip(latents, fresh))), expected)
    assert torch.equal(torch.stack(list(decode_clip(latents, fresh, warped=warped))), expected)


def test_at_another_size_it_gives_the_large_warp_bit_for_bit(fresh, maps):
    large = warped_clip(FRAMES, (160, 120))  # sampled at 80x64
    portrait = large.portrait / 127.5 - 1
    maps = guidance_of(FRAMES, (80, 60))
    latents = animate(portrait, maps, fresh, warped=large)
    assert latents.shape == (48, FRAMES, 20, 16)
    frames = torch.stack(list(decode_clip(latents, fresh, warped=large)))
    assert torch.equal(frames, large.warp_levels / 127.5 - 1)


def test_more_steps_from_no_noise_give_the_warp_too(maps, warped, portrait):
    silent = untrained(replace(TOY_SMALL, noise_scale=0.0))
    latents = animate(portrait, maps, silent, options=ReenactOptions(steps=4), warped=warped)
    frames = torch.stack(list(decode_clip(latents, silent)))
    torch.testing.assert_close(frames, warped.warp_levels / 127.5 - 1, rtol=0, atol=2e-6)


# --- what a trained one adds ---


def test_the_network_is_heard_in_units_of_the_deviation(trained, maps, warped):
    """The prediction is what precondition() makes of the network's own output."""
    features = features_of(trained, maps, warped)
    net, text = trained.denoising_unet, trained.text
    conditioning = net.condition(trained.appearance_net(torch.zeros(1, 48, 16, 16), text), text)
    windows = ((2, 3, 4), (5, 6, 7))
    latents = torch.randn(2, 48, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    guidance = torch.stack([features.window(frames, CPU, torch.float32) for frames in windows])
    output = net(latents, 700, conditioning, guidance)
    picture = torch.stack([warped.warp_levels[list(frames)] for frames in windows]) / 127.5 - 1
    mean = torch.stack([PixelUnshuffle(4).encode(frames) for frames in picture]).movedim(1, 2)
    deviation = torch.stack([prior_deviation(warped.labels[list(f)], TOY_SMALL.prior, 4) for f in windows])
    signal, sigma = (levels[700] for levels in noise_levels())
    noise = TOY_SMALL.prior.noise
    assert noise != 1
    expected = precondition(output, latents, signal, sigma, mean, deviation.movedim(1, 2), noise)
    denoise = GuidedDenoiser(net, conditioning, features, CPU, torch.float32, 1.0, config=TOY_SMALL)
    torch.testing.assert_close(denoise(latents, 700, windows), expected, rtol=1e-5, atol=1e-5)
    alone = torch.cat([denoise(latents[i : i + 1], 700, windows[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(denoise(latents, 700, windows), alone, rtol=1e-4, atol=1e-4)


def test_guidance_acts_between_the_predictions_with_and_without_the_portrait(trained, maps, warped):
    features = features_of(trained, maps, warped)
    net, text = trained.denoising_unet, trained.text
    conditioning = net.condition(trained.appearance_net(torch.zeros(1, 48, 16, 16), text), text)
    latents, windows = torch.zeros(1, 48, 2, 16, 16), ((0, 1),)

    def predict(scale: float) -> torch.Tensor:
        denoise = GuidedDenoiser(net, conditioning, features, CPU, torch.float32, scale, config=TOY_SMALL)
        return denoise(latents, 999, windows)

    without, seen, beyond = predict(0), predict(1), predict(3)
    assert (seen - without).abs().max() > 1e-3
    torch.testing.assert_close(beyond, without + 3 * (seen - without), rtol=1e-4, atol=1e-4)


def test_the_priors_arithmetic_is_float32_whatever_the_networks_compute_in(fresh, maps, warped):
    half = replace(
        fresh,
        denoising_unet=untrained(TOY_SMALL).denoising_unet.to(torch.bfloat16),
        guidance_encoders=untrained(TOY_SMALL).guidance_encoders.to(torch.bfloat16),
    )
    latents = animate(warped.portrait / 127.5 - 1, maps, half, warped=warped)
    assert torch.equal(torch.stack(list(decode_clip(latents, half))), warped.warp_levels / 127.5 - 1)


def test_windows_at_a_time_change_nothing_but_rounding_and_noise_is_scaled(trained, maps, warped, portrait):
    options = ReenactOptions(steps=2, windows_per_batch=1)
    one = animate(portrait, maps, trained, options=options, warped=warped)
    two = animate(portrait, maps, trained, options=replace(options, windows_per_batch=2), warped=warped)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-3)
    silent = replace(trained, config=replace(TOY_SMALL, noise_scale=0.0))
    noise = torch.zeros(48, FRAMES, 16, 16)
    assert torch.equal(
        animate(portrait, maps, silent, options=options, warped=warped),
        animate(portrait, maps, trained, options=options, warped=warped, noise=noise),
    )


def test_a_large_result_is_the_warp_plus_the_enlarged_correction(trained, maps):
    large = warped_clip(FRAMES, (128, 128))
    latents = animate(large.portrait / 127.5 - 1, maps, trained, warped=large)
    told = []
    frames = list(decode_clip(latents, trained, warped=large, on_progress=lambda *now: told.append(now)))
    assert told[-1] == ("decode", FRAMES, FRAMES)
    warp = large.warp_levels[0] / 127.5 - 1
    assert (frames[0] - warp).abs()[:, 40:90, 40:90].max() > 0.05
    assert frames[0].shape == (3, 128, 128) and frames[0].abs().max() <= 1
    assert not torch.equal(next(decode_clip(latents, trained)), frames[0])


# --- features ---


def test_features_keep_the_warp_in_any_part_of_the_clip(trained, maps, warped, tmp_path):
    whole = features_of(trained, maps, warped)
    assert torch.equal(whole.prior.picture, warped.warp_levels)
    assert torch.equal(whole.prior.labels, warped.labels)
    part = features_of(trained, maps[3:5], warped[3:5], store=tmp_path / "features")
    assert torch.equal(part.values, whole.values[3:5])
    mean, deviation = part.prior.window((1, 0), TOY_SMALL, CPU, torch.float32)
    assert mean.shape == (48, 2, 16, 16) and deviation.shape == (1, 2, 16, 16)
    assert torch.equal(mean.movedim(0, 1), PixelUnshuffle(4).encode(warped.warp_levels[[4, 3]] / 127.5 - 1))


def test_every_map_of_the_warp_is_read_and_the_fingerprint_is_of_all(trained, maps, warped):
    base = features_of(trained, maps[:1], warped[:1])
    others = {
        "warp": replace(warped, warp_levels=255 - warped.warp_levels),
        "portrait": replace(warped, portrait=255 - warped.portrait),
        "sources": replace(warped, labels=warped.labels.clone().fill_(4)),
    }
    prints = {base.fingerprint}
    for name, other in others.items():
        changed = features_of(trained, maps[:1], other[:1])
        assert not torch.equal(changed.values, base.values)
        without = [features_of(trained, maps[:1], x[:1], strengths={name: 0.0}) for x in (warped, other)]
        assert torch.equal(without[0].values, without[1].values)
        prints.add(changed.fingerprint)
    assert len(prints) == 4


def test_a_warp_that_is_made_on_demand_is_asked_for_in_parts(trained, warped, maps):
    asked = []

    class Lazy:
        num_frames, size = warped.num_frames, warped.size

        def __getitem__(self, frames: slice):
            asked.append((frames.start, frames.stop))
            return warped[frames]

    assert torch.equal(features_of(trained, maps, Lazy()).values, features_of(trained, maps, warped).values)
    assert asked == [(0, 8)]


# --- what does not fit ---


def test_a_model_that_reads_the_warp_must_get_the_one_of_the_maps(fresh, maps, warped, portrait):
    with pytest.raises(
        ValueError, match="starts from the portrait moved by the flow warp, and got none; con"
    ):
        features_of(fresh, maps, None)
    with pytest.raises(ValueError, match="warped portrait has 7 frames, the guidance 8; make both from the"):
        features_of(fresh, maps, warped[:7])
    with pytest.raises(ValueError, match="guidance is 64x64 and the warped portrait 64x96 pixels"):
        features_of(fresh, maps, warped_clip(FRAMES, (96, 64)))
    with pytest.raises(ValueError, match="warped portrait has 8 frames, the clip 2; give the warp that the"):
        next(decode_clip(torch.zeros(48, 2, 16, 16), fresh, warped=warped))


def test_a_portrait_that_was_not_warped_is_refused(fresh, maps, warped, portrait):
    assert animate(0.95 * portrait, maps, fresh, warped=warped).isfinite().all(), "of another contrast"
    with pytest.raises(ValueError, match="not the picture that was warped .* differ by .* of 255 levels"):
        animate(portrait.flip(-1), maps, fresh, warped=warped)


def test_features_of_another_kind_of_model_are_refused(fresh, maps, warped, portrait):
    features = features_of(fresh, maps, warped)
    with pytest.raises(ValueError, match="lack the warped portrait, those of the model 'toy_small' have it"):
        animate(portrait, MotionFeatures(features.values, ""), fresh)
    with pytest.raises(ValueError, match="have the warped portrait, those of the model 'sd15' lack it"):
        GuidedDenoiser(fresh.denoising_unet, None, features, CPU, torch.float32, config=SD15)


def test_usual_values_are_the_models():
    assert ReenactOptions().for_model(TOY_SMALL).steps == 1
    assert ReenactOptions().for_model(TOY_SMALL).guidance_scale == 1.0
    released = ReenactOptions().for_model(SD15)
    assert (released.steps, released.guidance_scale) == (20, 3.5)
    assert ReenactOptions(steps=7, guidance_scale=0.0).for_model(SD15).guidance_scale == 0.0
    assert ReenactOptions(steps=7).for_model(TOY_SMALL).steps == 7
