"""What people see while the sampler works: small pictures, how far it is, and how long it takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import comfy.latent_formats
import latent_preview
import torch
from torch import Tensor

from ..magicportrait_core.pixel_unshuffle import PixelUnshuffle
from . import host

if TYPE_CHECKING:
    from PIL import Image

    from ..magicportrait_core.denoiser import GuidedDenoiser
    from ..magicportrait_core.diffusion.schedule import Schedule
    from ..magicportrait_core.diffusion.segments import Windows
    from ..magicportrait_core.models.config import ModelConfig

PICTURES = 3  # of a window, side by side
TEXT_SECONDS = 0.5  # between two texts on the node


class WatchedDenoiser:
    """A denoiser that tells the user how it goes; its numbers are of this run, not of one it goes on from."""

    def __init__(self, denoise: GuidedDenoiser, schedule: Schedule, on_step: host.OnStep, windows: int):
        self._denoise, self._schedule, self._on_step = denoise, schedule, on_step
        self._windows = windows  # of a step
        self._previewer = previewer_for(denoise.config, denoise.device)
        self._seen: tuple[Tensor, Tensor, int] | None = None
        self._said = 0.0
        self._begin = time.monotonic()
        self.done = 0  # windows

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begin

    def __call__(self, latents: Tensor, timestep: int, windows: Windows) -> Tensor:
        host.check_cancelled()
        v = self._denoise(latents, timestep, windows)
        self._seen = latents[-1], v[-1], timestep
        self.done += len(windows)
        return v

    def on_window(self, done: int, total: int) -> None:
        """Progress, preview and text behind each batch of windows; raises when the user cancels."""
        self._on_step(done, total, self._picture if self._previewer else None)
        now = time.monotonic()
        if now - self._said >= TEXT_SECONDS or done == total:
            self._said = now
            host.say(self.text(done, total))

    def text(self, done: int, total: int) -> str:
        """'step 3 of 20, window 5 of 9, 1:40 left'."""
        step, window = divmod(done - 1, self._windows)
        left = self.seconds / max(self.done, 1) * (total - done)
        return (
            f"step {step + 1} of {total // self._windows}, window {window + 1} of {self._windows}, "
            f"{clock(left)} left"
        )

    def _picture(self) -> Image.Image:
        """The clean estimate of the last window, some of its frames side by side."""
        latents, v, timestep = self._seen
        clean = self._schedule.clean(latents, v.to(latents), self._schedule.timesteps.index(timestep))
        frames = host.spread(clean.shape[1], PICTURES)
        strip = torch.cat([clean[:, frame] for frame in frames], dim=-1)[None]  # (1, C, h, 3 w)
        return self._previewer.decode_latent_to_preview(strip.to(self._denoise.device))


class PixelPreviewer:
    """As the host's previewers, for latents that hold the pixels themselves."""

    def __init__(self, config: ModelConfig):
        self._config = config

    def decode_latent_to_preview(self, latents: Tensor) -> Image.Image:  # of (1, C, h, w)
        (picture,) = PixelUnshuffle(self._config.pixels_per_cell).decode(latents / self._config.latent_scale)
        return host.to_pil(picture)


def previewer_for(config: ModelConfig, device: torch.device) -> latent_preview.LatentPreviewer | None:
    """The host's previewer of the user's choice, None where previews are off; pixels need no such choice."""
    if config.autoencoder == "unshuffle":
        return PixelPreviewer(config)
    return latent_preview.get_previewer(device, comfy.latent_formats.SD15())


def clock(seconds: float) -> str:
    """'1:05' or '2:03:00'."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
