"""Maps -> features of the golden encoders: released values, chunks, files, strengths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from golden_model import GOLDEN, GOLDEN_CONFIG, golden_model
from safetensors.torch import load_file

from magicportrait_core.guidance import GuidanceMaps
from magicportrait_core.motion_features import FRAMES_AT_ONCE, encode_motion, map_levels

SIZE = (192, 128)
SMALL = (64, 64)


@pytest.fixture(scope="module")
def encoders():
    return golden_model().guidance_encoders


@pytest.fixture(scope="module")
def golden() -> dict:
    return load_file(GOLDEN / "pipeline_io.safetensors")


@pytest.fixture(scope="module")
def maps(golden) -> GuidanceMaps:  # 20 frames of 48x32 pixels
    levels = [golden[f"guidance_images.{name}"].movedim(-1, 1) for name in ("depth", "normal", "render")]
    return GuidanceMaps(*levels, flags=torch.ones_like(levels[0][:, :1]))


def encode(encoders, maps, size=SMALL, **options):
    return encode_motion(encoders, maps, GOLDEN_CONFIG, size, **options)


def test_maps_of_another_size_give_the_released_features(golden, encoders, maps):
    features = encode(encoders, maps[:2], SIZE)
    assert features.values.shape == (2, 32, 24, 16) and features.size == (24, 16)
    expected = golden["guidance_feature_frames_0_1"][0].movedim(1, 0)
    torch.testing.assert_close(features.values, expected, rtol=0, atol=1e-4)
    window = features.window((1, 0, 1), torch.device("cpu"), torch.float32)
    torch.testing.assert_close(window, expected[[1, 0, 1]].movedim(0, 1), rtol=0, atol=1e-4)


def test_a_frame_does_not_depend_on_the_others(encoders, maps):
    whole = encode(encoders, maps[:6]).values
    assert torch.equal(encode(encoders, maps[5:6]).values[0], whole[5])


def test_maps_are_asked_for_in_small_parts_and_progress_is_told(encoders, maps):
    asked, told = [], []

    class Source:
        num_frames, size = 2 * FRAMES_AT_ONCE + 1, maps.size

        def __getitem__(self, frames: slice) -> GuidanceMaps:
            asked.append((frames.start, frames.stop))
            return maps[frames]

    encode(encoders, Source(), on_frame=lambda *done: told.append(done))
    assert asked == [(0, 8), (8, 16), (16, 17)]
    assert told == [(i + 1, 17) for i in range(17)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_in_a_file_are_those_in_memory(tmp_path, maps, dtype):
    encoders = golden_model().guidance_encoders.to(dtype)
    store = tmp_path / "new" / "features"
    kept, mapped = encode(encoders, maps[:5]), encode(encoders, maps[:5], store=store)
    assert mapped.values.dtype == dtype and torch.equal(kept.values, mapped.values)
    assert store.stat().st_size == kept.values.numel() * dtype.itemsize
    assert kept.fingerprint == mapped.fingerprint


def test_strength_0_takes_a_map_away_and_1_is_as_it_is(encoders, maps):
    one = maps[:1]
    black = replace(one, depth_levels=torch.zeros_like(one.depth_levels))
    off = {"depth": 0.0}
    assert torch.equal(
        encode(encoders, one, strengths=off).values, encode(encoders, black, strengths=off).values
    )
    ones = dict.fromkeys(("depth", "normal", "render"), 1.0)
    assert torch.equal(encode(encoders, one).values, encode(encoders, one, strengths=ones).values)
    alone = [encode(encoders, one, strengths={**dict.fromkeys(ones, 0.0), name: 1.0}).values for name in ones]
    torch.testing.assert_close(sum(alone), encode(encoders, one).values, rtol=0, atol=1e-4)


def test_negative_normals_are_clipped_and_depth_has_three_channels():
    levels = torch.full((1, 3, 1, 1), 200, dtype=torch.uint8)
    flags = torch.tensor([1 + 4], dtype=torch.uint8).view(1, 1, 1, 1)  # y points away
    maps = GuidanceMaps(levels[:, :1], levels, levels, flags)
    assert map_levels(maps, "normal").flatten().tolist() == [200, 0, 200]
    assert map_levels(maps, "depth").flatten().tolist() == [200, 200, 200]


def test_the_fingerprint_is_of_all_that_matters(encoders, maps):
    one, other = maps[:1], maps[1:2]
    prints = [
        encode(encoders, one).fingerprint,
        encode(encoders, other).fingerprint,
        encode(encoders, one, strengths={"render": 0.5}).fingerprint,
        encode(encoders, one, (128, 64)).fingerprint,
        encode(encoders, one, fingerprint="of another model").fingerprint,
    ]
    assert len(set(prints)) == 5
    assert encode(encoders, one).fingerprint == prints[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strengths": {"flow": 1.0}}, "strength of 'flow': the model has the maps depth, normal, render"),
        ({"strengths": {"depth": 2.5}}, "strength depth=2.5; expected 0"),
        ({"size": (96, 64)}, "cannot work at 64x96 pixels; expected height and width in multiples of 64"),
        ({"size": None}, "cannot work at 32x48 pixels"),
    ],
)
def test_bad_values_are_refused(encoders, maps, options, message):
    with pytest.raises(ValueError, match=message):
        encode(encoders, maps[:1], **options)
