"""Warp preconditioning: the formula against the closed form of a Gaussian posterior, and the deviations."""

import math

import pytest
import torch
from torch import Tensor

from magicportrait_core.diffusion.noise import frame_noise
from magicportrait_core.diffusion.preconditioning import output_scale, precondition, prior_deviation
from magicportrait_core.diffusion.sampler import sample_clip
from magicportrait_core.diffusion.schedule import ddim_schedule, noise_levels
from magicportrait_core.models.config import WarpPriorConfig
from magicportrait_core.warp.sources import FILLED, MIRRORED, MOUTH, OUTSIDE, PHOTO

PRIOR = WarpPriorConfig(near_cells=1, around_cells=2)


def one(value: float) -> Tensor:
    return torch.full((1, 1), value)


def test_an_example_by_hand():
    # a = 0.6, q = 0.8, W = 0.2, s = 0.5, x = 1: d = 0.64 + 0.36 * 0.25 = 0.73,
    # v = 0.8 * (0.6 * 0.75 * 1 - 0.2) / 0.73 + (0.5 / sqrt 0.73) * 2 = 0.2740 + 1.1704
    v = precondition(one(2.0), one(1.0), 0.6, 0.8, one(0.2), one(0.5))
    assert v.item() == pytest.approx(0.8 * 0.25 / 0.73 + 2 * 0.5 / math.sqrt(0.73), abs=1e-6)
    assert v.item() == pytest.approx(1.4444, abs=1e-4)


@pytest.mark.parametrize("timestep", [0, 10, 250, 500, 900, 998, 999])
@pytest.mark.parametrize(("deviation", "noise"), [(0.09, 1.0), (0.43, 1.0), (0.15, 0.1), (0.3, 0.5)])
def test_it_is_the_posterior_of_a_gaussian(timestep, deviation, noise):
    """Of x = a x0 + q n with x0 ~ N(W, s^2) and n ~ N(0, r^2): the mean of x0 is W + a s^2 (x - a W) / D and
    its variance s^2 q^2 r^2 / D, D = a^2 s^2 + q^2 r^2."""
    signal, sigma = (float(levels[timestep]) for levels in noise_levels())
    mean, x = 0.3, -0.7
    d = (signal * deviation) ** 2 + (sigma * noise) ** 2
    expected = mean + signal * deviation**2 * (x - signal * mean) / d
    v = precondition(one(0.0), one(x), signal, sigma, one(mean), one(deviation), noise).item()
    assert signal * x - sigma * v == pytest.approx(expected, abs=2e-6)
    # x0 = a x - q v: one standard deviation of what v leaves open is one of x0, divided by q.
    unit = output_scale(signal, sigma, one(deviation), noise).item()
    assert sigma * unit == pytest.approx(deviation * sigma * noise / math.sqrt(d), abs=1e-6)


def test_from_pure_noise_one_step_gives_the_mean_exactly_whatever_the_noise():
    signal, sigma = (float(levels[-1]) for levels in noise_levels())
    assert (signal, sigma) == (0.0, 1.0)
    mean, noise = torch.rand(2, 48, 3, 4, 4) * 2 - 1, torch.randn(2, 48, 3, 4, 4)
    v = precondition(torch.zeros_like(mean), noise, signal, sigma, mean, torch.full((2, 1, 3, 4, 4), 0.4))
    assert torch.equal(signal * noise - sigma * v, mean)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_without_a_network_and_without_noise_every_number_of_steps_gives_the_mean(steps):
    mean, deviation = torch.rand(1, 48, 4, 4, 4) * 2 - 1, torch.full((1, 1, 4, 4, 4), 0.3)
    levels = noise_levels()

    def denoise(latents: Tensor, timestep: int, windows) -> Tensor:
        signal, sigma = (float(level[timestep]) for level in levels)
        return precondition(torch.zeros_like(latents), latents, signal, sigma, mean, deviation)

    noise = torch.zeros_like(mean[0])
    result = sample_clip(denoise, noise, ddim_schedule(steps), ((0, 1, 2, 3),), latent_scale=1.0)
    torch.testing.assert_close(result.latents[0], mean[0], rtol=0, atol=2e-6)


def test_with_noise_the_result_keeps_to_the_prior():
    """Every step of the closed form keeps x0 ~ N(W, s^2): after the last the deviation is s again."""
    mean, deviation = torch.full((1, 4, 4, 32, 32), 0.2), torch.full((1, 1, 4, 32, 32), 0.3)
    levels = noise_levels()

    def denoise(latents: Tensor, timestep: int, windows) -> Tensor:
        signal, sigma = (float(level[timestep]) for level in levels)
        return precondition(torch.zeros_like(latents), latents, signal, sigma, mean, deviation)

    noise = frame_noise(0, range(4), (4, 32, 32))
    result = sample_clip(denoise, noise, ddim_schedule(500), ((0, 1, 2, 3),), latent_scale=1.0).latents[0]
    assert result.mean().item() == pytest.approx(0.2, abs=0.01)
    assert result.std().item() == pytest.approx(0.3, rel=0.03)


def picture() -> Tensor:
    """16 x 16 pixels, cells of 2 x 2: a head in cells (3, 3), (3, 4), and nothing else."""
    labels = torch.full((1, 1, 16, 16), OUTSIDE, dtype=torch.uint8)
    labels[0, 0, 6:8, 6:8] = PHOTO
    labels[0, 0, 6:8, 8:10] = torch.tensor([[MIRRORED, FILLED], [OUTSIDE, OUTSIDE]], dtype=torch.uint8)
    return labels


def test_deviations_of_a_picture_of_64_cells():
    deviation = prior_deviation(picture(), PRIOR, 2)[0, 0]
    assert deviation.shape == (8, 8)
    assert deviation[3, 3].item() == pytest.approx(PRIOR.photo)
    assert deviation[3, 4].item() == pytest.approx((PRIOR.made_up + PRIOR.near) / 2)  # half is not the head
    near = [(2, 2), (2, 5), (3, 2), (4, 3), (4, 5)]
    around = [(1, 1), (1, 6), (5, 4), (3, 6), (5, 1)]
    far = [(0, 3), (6, 3), (3, 0), (3, 7), (0, 0), (7, 7)]
    for cells, expected in ((near, PRIOR.near), (around, PRIOR.around), (far, PRIOR.far)):
        assert [deviation[cell].item() for cell in cells] == pytest.approx([expected] * len(cells))
    assert (deviation > 0).all()


def test_a_bit_of_mouth_makes_a_mouth_cell():
    labels = picture()
    labels[0, 0, 7, 7] = MOUTH
    deviation = prior_deviation(labels, PRIOR, 2)[0, 0]
    assert deviation[3, 3].item() == pytest.approx(PRIOR.mouth)  # above 3/4 photo + 1/4 made up = 0.22
    assert deviation[3, 4].item() == pytest.approx((PRIOR.made_up + PRIOR.near) / 2)
