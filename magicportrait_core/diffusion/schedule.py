"""The released noise schedule: DDIM, linear betas with zero terminal SNR, trailing steps, v-prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:  # imported on use: the preview, which shares the pipeline, does without the package
    from diffusers import DDIMScheduler

TRAINING_STEPS = 1000
RELEASED_STEPS = 20
# facts b: linear, not SD 1.5's scaled_linear, and a last training step that is pure noise.
RELEASED_SETTINGS = {
    "num_train_timesteps": TRAINING_STEPS,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": True,
}


@dataclass(frozen=True)
class Schedule:
    """Deterministic DDIM (Song et al. 2021, eq. 12 with eta 0), one entry per step.

    A latent of step k is signal[k] * clean + sigma[k] * noise, and the network predicts
    v = signal[k] * noise - sigma[k] * clean (Salimans and Ho 2022).
    """

    timesteps: tuple[int, ...]  # what the network is told, falling
    signal: tuple[float, ...]
    sigma: tuple[float, ...]
    next_signal: tuple[float, ...]  # of the latents that a step gives; 1 after the last
    next_sigma: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.timesteps)

    def clean(self, latents: Tensor, v: Tensor, index: int) -> Tensor:
        """The video that the prediction of step `index` stands for; shapes alike."""
        return self.signal[index] * latents - self.sigma[index] * v

    def step(self, latents: Tensor, v: Tensor, index: int) -> Tensor:
        """Latents after step `index`; after the last one they are the clean estimate itself."""
        noise = self.signal[index] * v + self.sigma[index] * latents
        return self.next_signal[index] * self.clean(latents, v, index) + self.next_sigma[index] * noise


def ddim_schedule(steps: int = RELEASED_STEPS) -> Schedule:
    """The released schedule in 1 to 1000 steps, in float32 as the released pipeline computes it.

    A step lands on timestep t - 1000 // steps, as in diffusers, which lies up to one timestep beside the next
    one where `steps` does not divide 1000. The last step always ends clean; diffusers stops one timestep
    early (3 % noise) where 1000 / steps rounds up, as for 15 steps.
    """
    check_steps(steps)
    scheduler = _released_scheduler()
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps[:steps]  # numpy's arange may give one too many
    alphas = scheduler.alphas_cumprod
    following = (timesteps[:-1] - TRAINING_STEPS // steps).clamp(min=0)
    next_alphas = torch.cat([alphas[following], torch.ones(1)])
    return Schedule(
        timesteps=tuple(timesteps.tolist()),
        signal=_square_roots(alphas[timesteps]),
        sigma=_square_roots(1 - alphas[timesteps]),
        next_signal=_square_roots(next_alphas),
        next_sigma=_square_roots(1 - next_alphas),
    )


def noise_levels() -> tuple[Tensor, Tensor]:
    """Signal and sigma of all 1000 training timesteps, (1000,) float32 each; the last is pure noise."""
    alphas = _released_scheduler().alphas_cumprod
    return alphas.sqrt(), (1 - alphas).sqrt()


def check_steps(steps: int) -> None:
    """Raises ValueError for a number of steps that there is no schedule of."""
    if not 1 <= steps <= TRAINING_STEPS:
        raise ValueError(f"steps={steps}; expected 1 to {TRAINING_STEPS}, the released pipeline takes 20")


def _released_scheduler() -> DDIMScheduler:
    from diffusers import DDIMScheduler

    return DDIMScheduler(**RELEASED_SETTINGS)


def _square_roots(values: Tensor) -> tuple[float, ...]:
    return tuple(values.sqrt().tolist())
