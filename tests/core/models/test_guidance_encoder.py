"""Facts about the Geometric Guidance Encoders that hold for any weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toy_model import TOY, randomise

from magicportrait_core.models.guidance_encoder import GeometricGuidanceEncoder, GuidanceEncoders


def maps_of(*names: str, frames: int = 2, size: tuple[int, int] = (32, 16)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(frames, 3, *size, generator=generator) for name in names}


MAPS = maps_of("depth", "normal", "render")


@pytest.fixture(scope="module")
def encoders() -> GuidanceEncoders:
    return randomise(GuidanceEncoders(TOY), torch.Generator().manual_seed(0)).requires_grad_(False)


def test_features_are_the_sum_over_the_maps(encoders, gradients):
    expected = sum(encoders[name](MAPS[name]) for name in encoders)
    assert expected.shape == (2, 16, 4, 2)
    torch.testing.assert_close(encoders(MAPS), expected)


def test_strengths_scale_one_map_each(encoders, gradients):
    strengths = {"depth": 2.0, "normal": 0.0, "render": 0.5}
    expected = 2 * encoders["depth"](MAPS["depth"]) + 0.5 * encoders["render"](MAPS["render"])
    torch.testing.assert_close(encoders(MAPS, strengths), expected)
    torch.testing.assert_close(encoders(MAPS, {"depth": 1.0}), encoders(MAPS))


def test_no_strength_no_features(encoders):
    features = encoders(MAPS, dict.fromkeys(MAPS, 0.0))
    assert features.shape == (2, 16, 4, 2) and not features.any()


def test_a_map_of_strength_0_is_not_looked_at(encoders, no_grad):
    strengths = {"normal": 0.0}
    broken = MAPS | {"normal": torch.full_like(MAPS["normal"], torch.nan)}
    assert torch.equal(encoders(broken, strengths), encoders(MAPS, strengths))


def test_frames_are_independent(encoders, no_grad):
    alone = torch.cat([encoders({k: v[i : i + 1] for k, v in MAPS.items()}) for i in range(2)])
    torch.testing.assert_close(encoders(MAPS), alone)


def test_a_fresh_encoder_gives_nothing():
    features = GeometricGuidanceEncoder(TOY.guidance, 16)(MAPS["depth"])
    assert features.shape == (2, 16, 4, 2) and not features.any()


def test_gradients_reach_every_parameter():
    encoders = randomise(GuidanceEncoders(TOY), torch.Generator().manual_seed(0))
    encoders(MAPS).square().sum().backward()
    assert [name for name, p in encoders.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_fresh_encoder_learns():
    encoder = GeometricGuidanceEncoder(TOY.guidance, 16)
    (encoder(MAPS["depth"]) - 1).square().sum().backward()
    assert encoder.conv_out.weight.grad.any()


@pytest.mark.parametrize(
    ("maps", "strengths", "message"),
    [
        (maps_of("depth", "normal"), None, "maps lack render; this model reads depth, normal, render"),
        (MAPS, {"flow": 1.0}, "strengths name flow"),
        (MAPS | maps_of("depth", frames=3), None, "differ in shape"),
        ({name: x[:, :1] for name, x in MAPS.items()}, None, "expected \\(F, 3, H, W\\)"),
        (maps_of(*MAPS, size=(32, 20)), None, "32 x 20 pixels, expected multiples of 8"),
    ],
)
def test_bad_inputs(encoders, maps, strengths, message):
    with pytest.raises(ValueError, match=message):
        encoders(maps, strengths)
