"""What a step makes small, in numbers that can be checked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny_model import TINY

from magicportrait_core.diffusion.schedule import ddim_schedule
from magicportrait_core.models.config import SMALL
from magicportrait_core.models.initial import new_networks
from training.augment import NO_AUGMENT
from training.clip_store import ClipStore
from training.examples import Examples
from training.objective import (
    FIRST,
    Draws,
    ddim_timesteps,
    draw,
    loss_of,
    picture_loss,
    sample,
)
from training.step_inputs import cell_pictures, pictures_of, prepare_inputs
from training.train_options import ObjectiveOptions
from training.trained_networks import TrainedNetworks

PLAIN = ObjectiveOptions(  # absolute errors alone, in one step
    absolute=1, squares=0, psnr=0, edges=0, flicker=0, head=1, later_steps=0, reference_dropout=0
)


@pytest.fixture(scope="module")
def batch(drawn_store):
    return Examples([(ClipStore(drawn_store), 1.0)], TINY, 1, 4, 0, NO_AUGMENT).batch_at(0)


@pytest.fixture(scope="module")
def inputs(batch):
    return prepare_inputs(batch, TINY)


def speaking(networks: TrainedNetworks) -> TrainedNetworks:
    """No layer that starts at zero stands in the way."""
    for value in networks.parameters():
        if not value.any():
            torch.nn.init.normal_(value, std=0.1)
    return networks


def untrained(phase: str = "appearance") -> TrainedNetworks:
    return TrainedNetworks(new_networks(TINY), TINY, phase, torch.zeros(1, 1, TINY.unet.text_dim))


def drawn(inputs, options=PLAIN, seed=0, config=TINY) -> Draws:
    return draw(inputs.latents.shape, config, options, torch.Generator().manual_seed(seed))


def test_cells_hold_the_pixels(batch, inputs):
    pictures = cell_pictures(inputs.latents, TINY)
    torch.testing.assert_close(pictures, pictures_of(batch.frames).movedim(1, 2), rtol=0, atol=1e-6)
    assert torch.equal(inputs.truth, pictures_of(batch.frames).movedim(1, 2))


@torch.no_grad()
def test_an_untrained_network_has_the_warp_s_own_error(inputs):
    """In units of the prior's deviation; and PSNR counts it as no gain, no loss."""
    networks = untrained()
    loss = loss_of(networks, networks, inputs, drawn(inputs), TINY, PLAIN)
    error = (inputs.prior.mean - inputs.latents) / inputs.prior.deviation
    torch.testing.assert_close(loss, error.abs().mean(), rtol=1e-5, atol=0)
    assert loss > 0.05
    gain = loss_of(networks, networks, inputs, drawn(inputs), TINY, replace(PLAIN, absolute=0, psnr=1))
    assert abs(gain) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_an_untrained_network_samples_the_warp_in_any_number_of_steps(batch, inputs, steps):
    networks = untrained()
    noise = TINY.noise_scale * torch.randn(inputs.latents.shape)
    pictures = cell_pictures(sample(networks, inputs, noise, steps), TINY)
    warp = pictures_of(batch.maps["warp"]).movedim(1, 2)
    torch.testing.assert_close(pictures, warp, rtol=0, atol=1e-5)


def test_most_rows_are_where_sampling_starts():
    options = ObjectiveOptions(later_steps=0.25, reference_dropout=0.1)
    draws = draw((4000, 1, 1, 1, 1), SMALL, options, torch.Generator().manual_seed(0))
    first = draws.timesteps == FIRST
    assert 0.72 < first.float().mean() < 0.78
    assert 0.88 < draws.reads_reference.float().mean() < 0.92
    assert torch.equal(draws.own_estimate, ~first)  # sampling starts without noise: no row has the truth
    expected = {t for steps in range(2, 9) for t in ddim_schedule(steps).timesteps[1:]}
    assert set(draws.timesteps[~first].tolist()) == expected


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 20])
def test_timesteps_are_those_of_sampling(steps):
    assert ddim_timesteps(steps) == ddim_schedule(steps).timesteps


def test_rows_have_the_same_numbers_however_they_are_shared(inputs):
    whole = drawn(inputs, ObjectiveOptions())
    again = drawn(inputs, ObjectiveOptions())
    assert torch.equal(whole[2:4].noise, again.noise[2:4])
    assert torch.equal(whole[0:2].timesteps, again.timesteps[:2])


@torch.no_grad()
def test_later_rows_start_from_the_model_s_own_estimate(inputs):
    """With the truth as the estimate, sampling's second step sees the truth at its level; n is 0."""
    seen = []

    def knows_the_truth(part, latents, timesteps, reads):
        seen.append((latents, timesteps))
        return (part.prior.mean - part.latents) / part.prior.deviation  # clean = W - s F at the first step

    later = ddim_timesteps(2)[1]
    rows = inputs.rows
    draws = Draws(
        torch.zeros(inputs.latents.shape),
        torch.full((rows,), later),
        torch.ones(rows, dtype=torch.bool),
        torch.ones(rows, dtype=torch.bool),
    )
    loss_of(knows_the_truth, knows_the_truth, inputs, draws, TINY, PLAIN)
    (first, at_first), (second, at_second) = seen
    assert at_first.tolist() == [FIRST] * rows and not first.any()
    assert at_second.tolist() == [later] * rows
    signal = ddim_schedule(2).next_signal[0]
    torch.testing.assert_close(second, signal * inputs.latents, rtol=0, atol=1e-5)


@torch.no_grad()
def test_v_objective_is_the_mean_squared_error_of_v(inputs):
    """A network that says 0 has the mean of v squared as its loss; at pure noise v = -x0."""
    options = ObjectiveOptions(kind="v", reference_dropout=0)
    draws = drawn(inputs, options)
    plain = replace(inputs, prior=None)
    at_start = replace(draws, timesteps=torch.full_like(draws.timesteps, FIRST))

    def says_nothing(part, latents, timesteps, reads):
        return torch.zeros_like(latents)

    loss = loss_of(says_nothing, says_nothing, plain, at_start, TINY, options)
    torch.testing.assert_close(loss, inputs.latents.square().mean(), rtol=1e-5, atol=0)
    at_end = replace(draws, timesteps=torch.zeros_like(draws.timesteps))
    loss = loss_of(says_nothing, says_nothing, plain, at_end, TINY, options)
    torch.testing.assert_close(loss, draws.noise.square().mean(), rtol=0.05, atol=0)  # v is nearly the noise


def test_uniform_timesteps_for_v():
    draws = draw((3000, 1, 1, 1, 1), SMALL, ObjectiveOptions(kind="v"), torch.Generator().manual_seed(0))
    assert draws.timesteps.min() < 10 and draws.timesteps.max() > 989
    assert 480 < draws.timesteps.float().mean() < 520


def loss_between(estimate, truth, warp, on_head, deviation: float = 1.0, **options: float) -> float:
    deviations = torch.full_like(truth[:, :1], deviation)
    return picture_loss(estimate, truth, warp, deviations, on_head, replace(PLAIN, **options)).item()


def test_pixels_of_the_head_weigh_more():
    """The warp is wrong by 1 everywhere, the estimate by 0.5 on the head, one half of the picture."""
    truth = torch.zeros(1, 3, 1, 4, 4)
    head = torch.zeros(1, 1, 1, 4, 4, dtype=torch.bool)
    head[..., :2] = True
    given = (0.5 * head.expand(truth.shape), truth, torch.ones_like(truth), head)
    assert loss_between(*given) == 0.25  # (0.5 + 0) / 2
    assert loss_between(*given, head=3) == 0.75  # (3 * 0.5 + 0) / 2
    assert loss_between(*given, squares=2) == 0.5  # + 2 (0.25 + 0) / 2
    assert loss_between(*given, deviation=0.5) == 0.5
    gain = loss_between(*given, absolute=0, psnr=1)
    assert gain == pytest.approx(-math.log(4), abs=1e-3)  # half the error: a quarter, squared


def test_psnr_counts_rows_alike():
    """Two rows whose error is halved, one of them ten times as wrong as the other."""
    truth, head = torch.zeros(2, 3, 1, 2, 2), torch.ones(2, 1, 1, 2, 2, dtype=torch.bool)
    warp = torch.tensor([1.0, 0.1]).view(2, 1, 1, 1, 1).expand(truth.shape)
    assert loss_between(0.5 * warp, truth, warp, head, absolute=0, psnr=1) == pytest.approx(
        -math.log(4), abs=0.01
    )


def test_edges_and_flicker_are_differences_of_neighbours():
    truth, head = torch.zeros(1, 1, 2, 1, 3), torch.zeros(1, 1, 2, 1, 3, dtype=torch.bool)
    estimate = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]]).view(1, 1, 2, 1, 3)
    assert loss_between(estimate, truth, truth, head) == 0.5
    assert loss_between(estimate, truth, truth, head, flicker=3) == 1.5  # + 3 (0 + 0 + 1) / 3
    lines = estimate[:, :, :1].expand(-1, -1, -1, 2, -1)  # two equal lines of 0 1 1, a single frame
    still, nothing = torch.zeros_like(lines), head[:, :, :1].expand(lines.shape)
    loss = loss_between(lines, still, still, nothing, edges=4, flicker=3)
    assert loss == pytest.approx(2 / 3 + 4 * 0.5 / 2)  # (1 + 0) / 2 across, none down


@pytest.mark.parametrize("phase", ["appearance", "motion"])
def test_gradient_reaches_exactly_what_the_phase_trains(drawn_store, phase):
    """A text of three tokens, and latents that are not zero: then nothing is without effect."""
    torch.manual_seed(0)
    networks = TrainedNetworks(new_networks(TINY), TINY, phase, torch.randn(1, 3, TINY.unet.text_dim))
    speaking(networks)
    inputs = clips_of(drawn_store, 3 if phase == "motion" else 1)
    options = ObjectiveOptions(reference_dropout=0, later_steps=1)
    loss_of(networks, networks, inputs, drawn(inputs, options), TINY, options).backward()
    everything = dict(networks.named_parameters())
    motion = {name for name in everything if ".motion_modules." in name}
    expected = motion if phase == "motion" else everything.keys() - motion
    assert {name for name, _ in networks.trained()} == expected
    assert {name for name, p in everything.items() if p.grad is not None and p.grad.any()} == expected


@torch.no_grad()
def test_motion_modules_start_as_a_no_op(drawn_store):
    networks, inputs = untrained("motion"), clips_of(drawn_store, 3)
    torch.nn.init.normal_(networks.denoising_unet.conv_out.weight, std=0.1)
    latents = torch.randn(inputs.latents.shape, generator=torch.Generator().manual_seed(0))
    timesteps = torch.full((2,), FIRST)
    with_motion = networks(inputs, latents, timesteps)
    networks.phase = "appearance"
    assert torch.equal(networks(inputs, latents, timesteps), with_motion) and with_motion.any()


@torch.no_grad()
def test_rows_that_do_not_read_the_reference_do_not_depend_on_it(batch):
    networks = speaking(untrained())
    maps = batch.maps | {"portrait": torch.zeros_like(batch.maps["portrait"])}
    inputs = prepare_inputs(replace(batch, maps=maps), TINY)
    other = prepare_inputs(replace(batch, maps=maps, reference=255 - batch.reference), TINY)
    latents, timesteps = torch.randn(inputs.latents.shape), torch.full((inputs.rows,), FIRST)
    reads = torch.tensor([True, False, True, False])
    first, second = (networks(rows, latents, timesteps, reads) for rows in (inputs, other))
    same = [torch.equal(a, b) for a, b in zip(first, second, strict=True)]
    assert same == [False, True, False, True]


def clips_of(folder, window: int):
    batch = Examples([(ClipStore(folder), 1.0)], TINY, window, 2, 0, NO_AUGMENT).batch_at(0)
    return prepare_inputs(batch, TINY)
