"""Denoisers that need no network: one that knows the answer, one that depends on everything it sees."""

from __future__ import annotations

import torch
from torch import Tensor

from magicportrait_core.diffusion.schedule import Schedule
from magicportrait_core.diffusion.segments import Windows


class KnowsTheClip:
    """v of a known clip (C, F, h, w)."""

    def __init__(self, clip: Tensor, schedule: Schedule):
        self.clip, self.schedule = clip, schedule

    def __call__(self, latents: Tensor, timestep: int, windows: Windows) -> Tensor:
        step = self.schedule.timesteps.index(timestep)
        signal, sigma = self.schedule.signal[step], self.schedule.sigma[step]
        clean = torch.stack([self.clip[:, list(window)] for window in windows])
        noise = (latents - signal * clean) / sigma
        return signal * noise - sigma * clean


def mixing_denoiser(latents: Tensor, timestep: int, windows: Windows) -> Tensor:
    """Depends on the other frames of the window, on places in it, on timestep and frame numbers."""
    _, _, frames, _, _ = latents.shape
    position = torch.arange(frames)[:, None, None] / frames
    numbers = torch.tensor(windows, dtype=torch.float32)[:, None, :, None, None]
    mixed = latents.mean(2, keepdim=True) - latents.roll(1, 2) + 0.1 * position + 0.01 * numbers
    return torch.sin(mixed * (1 + timestep / 1000)) + 0.3 * latents
