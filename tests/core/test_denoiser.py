"""Guided predictions of a network that can be worked out by hand."""

import pytest
import torch
from torch import Tensor

from magicportrait_core.denoiser import GuidedDenoiser
from magicportrait_core.motion_features import MotionFeatures

FRAMES = 6
WINDOWS = ((0, 1, 2), (4, 5, 0))


class Network:
    """Unconditional: the guidance. Conditional: the guidance + 2. Notes what it is asked."""

    def __init__(self):
        self.passes = []

    def __call__(self, latents, timestep, conditioning, guidance=None) -> Tensor:
        self.passes.append(("one", timestep, conditioning, latents.dtype))
        return self.seen(latents, guidance) + 2

    def forward_pair(self, latents, timestep, conditioning, guidance=None) -> tuple[Tensor, Tensor]:
        self.passes.append(("pair", timestep, conditioning, latents.dtype))
        return self.seen(latents, guidance), self.seen(latents, guidance) + 2

    def seen(self, latents, guidance) -> Tensor:
        return torch.zeros_like(latents) if guidance is None else guidance.expand_as(latents)


def predict(scale: float, strength: float = 1.0, dtype: torch.dtype = torch.float32):
    network = Network()
    values = torch.arange(FRAMES, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 2, 3)
    features = MotionFeatures(values, "numbers of the frames")
    denoise = GuidedDenoiser(
        network,
        "clip",
        features,
        torch.device("cpu"),
        dtype,
        guidance_scale=scale,
        guidance_strength=strength,
    )
    return denoise(torch.zeros(2, 4, 3, 2, 3), 999, WINDOWS), network.passes


def test_a_window_gets_the_features_of_its_frames_and_cfg_goes_beyond_the_conditional_prediction():
    v, passes = predict(scale=3.5)
    frames = torch.tensor(WINDOWS, dtype=torch.float32)[:, None, :, None, None]
    torch.testing.assert_close(v, (frames + 3.5 * 2).expand(2, 4, 3, 2, 3))
    assert passes == [("pair", 999, "clip", torch.float32)]


def test_scale_1_is_the_conditional_prediction_in_one_pass():
    v, passes = predict(scale=1)
    assert v[0, 0, :, 0, 0].tolist() == [2, 3, 4]
    assert [kind for kind, *_ in passes] == ["one"]


def test_scale_0_is_the_unconditional_prediction():
    assert predict(scale=0)[0][1, 3, :, 1, 2].tolist() == [4, 5, 0]


@pytest.mark.parametrize(("strength", "expected"), [(0, [0, 0, 0]), (1, [4, 5, 0]), (2, [8, 10, 0])])
def test_the_strength_multiplies_the_features(strength, expected):
    assert predict(scale=0, strength=strength)[0][1, 0, :, 0, 0].tolist() == expected


def test_the_network_computes_in_its_own_precision_and_the_guided_sum_in_float32():
    v, passes = predict(scale=3.5, dtype=torch.bfloat16)
    assert passes[0][3] == torch.bfloat16 and v.dtype == torch.float32


@pytest.mark.parametrize("values", [{"scale": -1}, {"scale": 31}, {"scale": 1, "strength": 2.5}])
def test_values_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match=r"guidance_(scale|strength)=.*expected 0"):
        predict(**values)
