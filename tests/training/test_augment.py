"""Variations change all parts of a clip alike, and nothing when they are off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from training.augment import (
    NO_AUGMENT,
    AugmentOptions,
    augment_clip,
    blurred,
    cropped,
    grain,
    mirrored,
    recoloured,
)
from training.clip_store import CHANNELS, Clip

SIDE = 16


@pytest.fixture
def clip() -> Clip:
    random = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)

    maps = {name: noise(2, channels, SIDE, SIDE) for name, channels in CHANNELS.items() if name != "render"}
    return Clip(
        "clip", noise(2, 3, SIDE, SIDE), maps | {"sources": maps["sources"] % 6}, noise(3, SIDE, SIDE)
    )


def only(**options: float) -> AugmentOptions:
    return replace(NO_AUGMENT, **options)


def changed(clip: Clip, options: AugmentOptions, seed: int = 0) -> Clip:
    return augment_clip(clip, options, np.random.default_rng(seed))


def equal(first: Clip, second: Clip) -> bool:
    parts = [(first.frames, second.frames), (first.reference, second.reference)]
    parts += [(first.maps[name], second.maps[name]) for name in first.maps]
    return all(torch.equal(a, b) for a, b in parts)


def test_nothing_changes_when_all_is_off(clip):
    assert equal(changed(clip, NO_AUGMENT), clip)


@pytest.mark.parametrize(
    "options", [AugmentOptions(flip=0.5), only(noise=8.0), only(crop=0.3), only(blur=1.0)]
)
def test_the_same_random_state_gives_the_same_clip(clip, options):
    assert equal(changed(clip, options, 5), changed(clip, options, 5))
    assert any(not equal(changed(clip, options, seed), changed(clip, options, 5)) for seed in range(5))


@pytest.mark.parametrize(
    "options", [only(flip=1.0), only(crop=0.4), only(colour=1.0), only(grey=1.0), only(blur=1.0)]
)
def test_pictures_that_are_equal_stay_equal(clip, options):
    """The network is never paid for changing what the portrait shows."""
    frames = clip.reference.expand(2, -1, -1, -1).contiguous()
    still = replace(clip, frames=frames, maps=clip.maps | {"warp": frames.clone()})
    for seed in range(5):
        new = changed(still, options, seed)
        assert torch.equal(new.maps["warp"], new.frames)
        assert torch.equal(new.reference.expand_as(new.frames), new.frames)


@pytest.mark.parametrize("options", [only(colour=2.0), only(grey=1.0), only(blur=1.0), only(noise=20.0)])
def test_geometry_is_left_alone_by_colours_and_noise(clip, options):
    new = changed(clip, options)
    assert all(torch.equal(new.maps[name], clip.maps[name]) for name in clip.maps if name != "warp")


def test_a_mirrored_normal_points_to_the_other_side(clip):
    """A normal (0.6, 0, 0.8) that is stored as red 153, nothing to the left, becomes (-0.6, 0, 0.8)."""
    clip.maps["normal"][:] = torch.tensor([153, 0, 204], dtype=torch.uint8)[:, None, None]
    clip.maps["normal_left"][:] = 0
    new = mirrored(clip)
    assert new.maps["normal"][0, :, 0, 0].tolist() == [0, 0, 204]
    assert new.maps["normal_left"].unique().tolist() == [153]
    assert torch.equal(new.frames, clip.frames.flip(-1))
    assert torch.equal(new.maps["sources"], clip.maps["sources"].flip(-1))
    assert equal(mirrored(new), clip)


def test_a_crop_enlarges_the_same_part_of_everything(clip):
    """The left half is 10, the right 200: cut to the right half, all is 200."""
    halves = torch.full((SIDE, SIDE), 10, dtype=torch.uint8)
    halves[:, SIDE // 2 :] = 200
    half = replace(
        clip,
        frames=halves.expand(2, 3, -1, -1),
        maps={name: halves.expand(2, CHANNELS[name], -1, -1) for name in clip.maps},
        reference=halves.expand(3, -1, -1),
    )
    new = cropped(half, 4, SIDE // 2, (SIDE // 2, SIDE // 2))
    for value in (new.frames, new.reference, *new.maps.values()):
        assert value.unique().tolist() == [200]
    assert {name: value.shape for name, value in new.maps.items()} == {
        name: value.shape for name, value in half.maps.items()
    }


def test_labels_stay_labels_in_a_crop(clip):
    assert set(cropped(clip, 1, 2, (11, 12)).maps["sources"].unique().tolist()) <= set(range(6))


def test_grey_pictures_have_one_colour(clip):
    new = changed(clip, only(grey=1.0))
    assert torch.equal(new.frames[:, 0], new.frames[:, 1])
    assert torch.equal(new.frames[:, 0], new.frames[:, 2])


def test_curves_map_levels_and_saturation_mixes_with_luma():
    levels = torch.tensor([100, 150, 50], dtype=torch.uint8).view(1, 3, 1, 1)
    double = (2 * np.arange(256)[None].repeat(3, 0)).clip(0, 255).astype(np.float32)
    assert recoloured(levels, double, 1.0).flatten().tolist() == [200.0, 255.0, 100.0]
    same = np.arange(256)[None].repeat(3, 0).astype(np.float32)
    luma = 0.299 * 100 + 0.587 * 150 + 0.114 * 50
    half = recoloured(levels, same, 0.5).flatten().tolist()
    assert half == pytest.approx([(value + luma) / 2 for value in (100, 150, 50)], abs=1e-3)


def test_a_blurred_dot_spreads_and_keeps_its_sum():
    dot = torch.zeros(1, 3, 5, 5)
    dot[..., 2, 2] = 100
    soft = blurred(dot, 0.5)
    assert soft[0, 0, 2].tolist() == [0, 12.5, 25, 12.5, 0]
    assert soft.sum() == dot.sum()


def test_noise_is_on_what_is_given_and_not_on_the_truth(clip):
    flat = torch.full_like(clip.frames, 128)
    still = replace(clip, frames=flat, maps=clip.maps | {"warp": flat.clone()}, reference=flat[0].clone())
    new = changed(still, only(noise=20.0))
    assert torch.equal(new.frames, flat)
    given = torch.cat((new.reference[None], new.maps["warp"])).float()
    assert 0 < given.std() < 22
    assert (given.mean() - 128).abs() < 2


def test_grain_is_normal():
    values = grain(torch.Size((3, 100, 100)), np.random.default_rng(0))
    assert abs(float(values.mean())) < 0.02
    assert abs(float(values.std()) - 1) < 0.02


@pytest.mark.parametrize(
    ("name", "value"), [("flip", 1.5), ("colour", -1), ("crop", 0.6), ("noise", 100), ("blur", float("nan"))]
)
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"augment {name}="):
        AugmentOptions(**{name: value})
