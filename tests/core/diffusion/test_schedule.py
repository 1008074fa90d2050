"""The schedule against the released pipeline's numbers and against diffusers."""

import json

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file

from magicportrait_core.diffusion.schedule import RELEASED_SETTINGS, ddim_schedule


@pytest.fixture(scope="module")
def released(golden):
    return load_file(golden / "schedule.safetensors")


def test_timesteps_are_the_released_ones(golden):
    expected = json.loads((golden / "schedule_context.json").read_text())["timesteps"]
    assert len(expected) == 12
    for steps, timesteps in expected.items():
        assert list(ddim_schedule(int(steps)).timesteps) == timesteps


def test_signal_and_noise_are_the_released_ones(released):
    schedule = ddim_schedule(1000)
    assert schedule.timesteps == tuple(range(999, -1, -1))
    alphas = torch.tensor(schedule.signal).flip(0) ** 2
    torch.testing.assert_close(alphas, released["alphas_cumprod"], rtol=1e-6, atol=1e-7)
    squares = torch.tensor(schedule.signal) ** 2 + torch.tensor(schedule.sigma) ** 2
    torch.testing.assert_close(squares, torch.ones(1000), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "prefix", "timesteps"),
    [(20, "step_prev_t", (999, 949, 499, 49)), (3, "step3_prev_t", (999, 666, 332))],
)
def test_a_step_is_the_released_one(released, steps, prefix, timesteps):
    """With 3 steps, 666 goes to 666 - 333 though the next timestep is 332."""
    schedule = ddim_schedule(steps)
    for timestep in timesteps:
        index = schedule.timesteps.index(timestep)
        actual = schedule.step(released["step_sample"], released["step_v"], index)
        torch.testing.assert_close(actual, released[f"{prefix}{timestep}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 12, 15, 20, 30, 600, 1000])
def test_steps_equal_diffusers_bit_for_bit(steps):
    schedule = ddim_schedule(steps)
    scheduler = DDIMScheduler(**RELEASED_SETTINGS)
    scheduler.set_timesteps(steps)
    latents, v = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0)).unbind()
    for index, timestep in enumerate(schedule.timesteps[:-1]):
        expected = scheduler.step(v, timestep, latents)
        assert torch.equal(schedule.step(latents, v, index), expected.prev_sample)
        assert torch.equal(schedule.clean(latents, v, index), expected.pred_original_sample)


@pytest.mark.parametrize("steps", [1, 3, 7, 15, 20, 999])
def test_the_last_step_ends_clean(steps):
    """Also where diffusers would leave noise, as with 7 and 15 steps."""
    schedule = ddim_schedule(steps)
    latents, v = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0)).unbind()
    last = steps - 1
    assert torch.equal(schedule.step(latents, v, last), schedule.clean(latents, v, last))


def test_pure_noise_says_nothing_of_the_clip():
    """Zero terminal SNR: at the first step the clean estimate is -v, whatever the latents are."""
    schedule = ddim_schedule(20)
    v = torch.randn(4, 6)
    assert schedule.signal[0] == 0
    assert torch.equal(schedule.clean(torch.randn(4, 6), v, 0), -v)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_numbers_of_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"steps={steps}; expected 1 to 1000"):
        ddim_schedule(steps)
