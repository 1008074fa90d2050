"""What a training step makes small.

"v" (the released model): mean squared error of the v-prediction at any timestep.

"picture" (warp-preconditioned models): the clean estimate against the truth, pixel by pixel. Most rows are at
the timestep where sampling starts, whose latents are noise alone: that is sampling in one step. The others
are at later timesteps of samplings in 2 to `most_steps` steps. Sampling gets there with latents made from its
own earlier estimate, and so have these rows: from the model's estimate at the first timestep and the noise it
came from. (Where sampling starts from noise, half of them have the truth with noise instead.) A model that
has only seen the truth takes the faults of its own estimate for detail, and gets worse with each step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from magicportrait_core.diffusion.preconditioning import precondition
from magicportrait_core.diffusion.schedule import TRAINING_STEPS, ddim_schedule, noise_levels
from magicportrait_core.models.config import ModelConfig

from .step_inputs import Prior, StepInputs, cell_pictures
from .train_options import ObjectiveOptions

FIRST = TRAINING_STEPS - 1  # timestep where sampling starts: pure noise
SMALLEST_ERROR = (1 / 255) ** 2  # a picture in [-1, 1] that is half a level off
FEWEST_STEPS = 2  # of samplings that have a later timestep
Predict = Callable[
    [StepInputs, Tensor, Tensor, Tensor], Tensor
]  # inputs, latents, timesteps, reads -> output


@dataclass(frozen=True)
class Draws:
    """The random numbers of a step, on the CPU: the same for the same generator, however rows are shared."""

    noise: Tensor  # (B, C, W, h, w), standard deviation 1
    timesteps: Tensor  # (B,) int64
    own_estimate: Tensor  # (B,) bool: latents from the model's own estimate
    reads_reference: Tensor  # (B,) bool

    def __getitem__(self, rows: slice) -> Draws:
        return Draws(
            self.noise[rows], self.timesteps[rows], self.own_estimate[rows], self.reads_reference[rows]
        )

    def to(self, device: torch.device) -> Draws:
        return Draws(
            self.noise.to(device),
            self.timesteps.to(device),
            self.own_estimate.to(device),
            self.reads_reference.to(device),
        )


def draw(
    shape: tuple[int, ...], config: ModelConfig, options: ObjectiveOptions, generator: torch.Generator
) -> Draws:
    """Random numbers for latents (B, C, W, h, w)."""
    rows = shape[0]
    noise = torch.randn(shape, generator=generator)
    reads = torch.rand(rows, generator=generator) >= options.reference_dropout
    if options.kind == "v":
        timesteps = torch.randint(TRAINING_STEPS, (rows,), generator=generator)
        return Draws(noise, timesteps, torch.zeros(rows, dtype=torch.bool), reads)
    later = torch.rand(rows, generator=generator) < options.later_steps
    timesteps = torch.where(later, _later_timesteps(rows, options.most_steps, generator), FIRST)
    own = torch.rand(rows, generator=generator) < (0.5 if config.noise_scale else 1.0)
    return Draws(noise, timesteps, own & later, reads)


def _later_timesteps(rows: int, most_steps: int, generator: torch.Generator) -> Tensor:
    """Timesteps of samplings in 2 to `most_steps` steps, without the first; each number of steps alike."""
    timesteps = []
    for _ in range(rows):
        steps = int(torch.randint(FEWEST_STEPS, most_steps + 1, (), generator=generator))
        index = int(torch.randint(1, steps, (), generator=generator))
        timesteps.append(ddim_timesteps(steps)[index])
    return torch.tensor(timesteps)


def ddim_timesteps(steps: int) -> tuple[int, ...]:
    """What ddim_schedule(steps) tells the network (trailing spacing), without building the schedule."""
    return tuple(round(TRAINING_STEPS - k * TRAINING_STEPS / steps) - 1 for k in range(steps))


@dataclass(frozen=True)
class Levels:
    """Signal and sigma of rows at their timesteps, (B, 1, 1, 1, 1) each."""

    signal: Tensor
    sigma: Tensor

    @classmethod
    def at(cls, timesteps: Tensor) -> Levels:
        def place(values: Tensor) -> Tensor:
            return values.to(timesteps.device)[timesteps].view(-1, 1, 1, 1, 1)

        return cls(*map(place, _noise_levels()))

    def noised(self, clean: Tensor, noise: Tensor) -> Tensor:
        return self.signal * clean + self.sigma * noise

    def v(self, clean: Tensor, noise: Tensor) -> Tensor:
        return self.signal * noise - self.sigma * clean

    def clean(self, latents: Tensor, v: Tensor) -> Tensor:
        return self.signal * latents - self.sigma * v


@functools.lru_cache(maxsize=1)
def _noise_levels() -> tuple[Tensor, Tensor]:
    return noise_levels()


def v_of(output: Tensor, latents: Tensor, levels: Levels, prior: Prior | None) -> Tensor:
    """The v-prediction that the networks' output stands for, in float32."""
    output = output.float()
    if prior is None:
        return output
    return precondition(
        output, latents, levels.signal, levels.sigma, prior.mean, prior.deviation, prior.noise
    )


def loss_of(
    predict: Predict,  # the networks
    frozen: Predict,  # the same, where no gradient is wanted
    inputs: StepInputs,
    draws: Draws,
    config: ModelConfig,
    options: ObjectiveOptions,
) -> Tensor:
    """The mean loss of the rows, a number."""
    levels = Levels.at(draws.timesteps)
    if options.kind == "v":
        latents = levels.noised(inputs.latents, draws.noise)
        output = predict(inputs, latents, draws.timesteps, draws.reads_reference)
        v = v_of(output, latents, levels, inputs.prior)
        return (v - levels.v(inputs.latents, draws.noise)).square().mean()
    noise = config.noise_scale * draws.noise
    latents = levels.noised(_starts(frozen, inputs, draws, noise), noise)
    output = predict(inputs, latents, draws.timesteps, draws.reads_reference)
    clean = levels.clean(latents, v_of(output, latents, levels, inputs.prior))
    warp, deviation = cell_pictures(inputs.prior.mean, config), inputs.prior.deviation
    deviation = deviation.repeat_interleave(config.pixels_per_cell, -1)
    deviation = deviation.repeat_interleave(config.pixels_per_cell, -2)
    return picture_loss(cell_pictures(clean, config), inputs.truth, warp, deviation, inputs.head, options)


@torch.no_grad()
def _starts(frozen: Predict, inputs: StepInputs, draws: Draws, noise: Tensor) -> Tensor:
    """Clean latents that noise is added to: the truth, or the model's estimate at the first timestep."""
    if not draws.own_estimate.any():
        return inputs.latents
    rows = draws.own_estimate.nonzero().flatten()
    part, latents = rows_of(inputs, rows), noise[rows]
    timesteps = torch.full_like(draws.timesteps[rows], FIRST)
    output = frozen(part, latents, timesteps, draws.reads_reference[rows])
    levels = Levels.at(timesteps)
    estimate = levels.clean(latents, v_of(output, latents, levels, part.prior))
    return inputs.latents.index_copy(0, rows, estimate)


def picture_loss(
    estimate: Tensor,  # (B, 3, W, H, W)
    truth: Tensor,  # of the same shape, in [-1, 1] as all three
    warp: Tensor,
    deviation: Tensor,  # (B, 1, W, H, W) of the prior, above 0
    head: Tensor,  # (B, 1, W, H, W) bool
    options: ObjectiveOptions,
) -> Tensor:
    """Absolute and squared error in units of the prior's deviation, which is what the network's output is
    in, pixels of the head weighted; differences of errors between neighbours; and how many times larger or
    smaller than the warp's each row's squared error on the head is, as a logarithm: so PSNR counts it, and
    an easy clip counts as much as a hard one.
    """
    error = (estimate - truth) / deviation
    weight = 1 + (options.head - 1) * head.float()
    loss = options.absolute * (weight * error.abs()).mean()
    loss = loss + options.squares * (weight * error.square()).mean()
    if options.psnr:
        gain = head_error(estimate - truth, head).log() - head_error(warp - truth, head).log()
        loss = loss + options.psnr * gain.mean()
    if options.edges:
        across = (weight[..., 1:] * error.diff(dim=-1).abs()).mean()
        down = (weight[..., 1:, :] * error.diff(dim=-2).abs()).mean()
        loss = loss + options.edges * (across + down) / 2
    if options.flicker and error.shape[2] > 1:
        loss = loss + options.flicker * (weight[:, :, 1:] * error.diff(dim=2).abs()).mean()
    return loss


def head_error(error: Tensor, head: Tensor) -> Tensor:  # (B,)
    """Each row's mean squared error on the head; not below that of half a level."""
    squares, pixels = (error.square() * head).flatten(1).sum(1), 3 * head.flatten(1).sum(1)
    return squares / pixels.clamp(min=1) + SMALLEST_ERROR


def rows_of(inputs: StepInputs, rows: Tensor) -> StepInputs:
    """Some rows of a step."""
    windows = inputs.latents.shape[2]
    frames = (rows[:, None] * windows + torch.arange(windows, device=rows.device)).flatten()
    prior = inputs.prior and Prior(inputs.prior.mean[rows], inputs.prior.deviation[rows], inputs.prior.noise)
    return StepInputs(
        inputs.reference[rows],
        inputs.truth[rows],
        inputs.latents[rows],
        {name: value[frames] for name, value in inputs.maps.items()},
        inputs.head[rows],
        prior,
    )


@torch.no_grad()
def sample(
    frozen: Predict,
    inputs: StepInputs,
    noise: Tensor,  # (B, C, W, h, w), as sampling starts with
    steps: int,
) -> Tensor:  # (B, C, W, h, w) clean latents
    """Sampling in some steps without guidance, as sampler.sample_ddim does for one window."""
    schedule, latents = ddim_schedule(steps), noise
    for index, timestep in enumerate(schedule.timesteps):
        timesteps = torch.full((inputs.rows,), timestep, device=noise.device)
        levels = Levels.at(timesteps)
        output = frozen(inputs, latents, timesteps, torch.ones_like(timesteps, dtype=torch.bool))
        latents = schedule.step(latents, v_of(output, latents, levels, inputs.prior), index)
    return latents
