"""The networks as the sampler sees them: windows of latents in, guided predictions out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .diffusion.preconditioning import precondition
from .diffusion.schedule import noise_levels
from .diffusion.segments import Windows
from .models.config import SD15, ModelConfig
from .motion_features import MotionFeatures, check_features

if TYPE_CHECKING:
    from .models.denoising_unet import ClipConditioning, DenoisingUNet

RELEASED_GUIDANCE_SCALE = 3.5
LARGEST_GUIDANCE_SCALE = 30.0
LARGEST_GUIDANCE_STRENGTH = 2.0


@dataclass(frozen=True)
class GuidedDenoiser:
    """v-predictions after classifier-free guidance, for one clip.

    Both halves have the text and the motion features; the unconditional one does not look at the portrait
    (facts a.4). A guidance scale of 1 is the conditional prediction alone, in a single pass. The guidance
    strength multiplies the motion features: 0 takes them away, 1 is as trained. Guidance acts on the
    network's output; what a warp-preconditioned model knows beforehand is the same for both halves.
    """

    unet: DenoisingUNet
    conditioning: ClipConditioning
    features: MotionFeatures
    device: torch.device  # where the network computes
    dtype: torch.dtype  # and in which precision
    guidance_scale: float = RELEASED_GUIDANCE_SCALE
    guidance_strength: float = 1.0
    config: ModelConfig = SD15

    def __post_init__(self):
        check_guidance(self.guidance_scale, self.guidance_strength)
        check_features(self.features, self.config)

    @torch.no_grad()
    def __call__(
        self,
        latents: Tensor,  # (B, C, W, h, w)
        timestep: int,
        windows: Windows,  # frame numbers of each of the B windows
    ) -> Tensor:  # (B, C, W, h, w) float32, on the networks' device
        output = self._output(latents.to(self.device, self.dtype), timestep, windows)
        if self.config.prior is None:
            return output
        signal, sigma = (float(levels[timestep]) for levels in noise_levels())
        priors = [self.features.prior.window(frames, self.config, self.device) for frames in windows]
        mean, deviation = (torch.stack(parts) for parts in zip(*priors, strict=True))
        latents, noise = latents.to(self.device, torch.float32), self.config.prior.noise
        return precondition(output, latents, signal, sigma, mean, deviation, noise)

    def _output(self, inputs: Tensor, timestep: int, windows: Windows) -> Tensor:  # float32
        guidance = self._guidance(windows)
        if self.guidance_scale == 1:
            return self.unet(inputs, timestep, self.conditioning, guidance).float()
        unconditional, conditional = self.unet.forward_pair(inputs, timestep, self.conditioning, guidance)
        return torch.lerp(unconditional.float(), conditional.float(), self.guidance_scale)

    def _guidance(self, windows: Windows) -> Tensor | None:  # (B, E, W, h, w)
        if self.guidance_strength == 0:
            return None
        features = [self.features.window(frames, self.device, self.dtype) for frames in windows]
        return torch.stack(features) * self.guidance_strength


def check_guidance(scale: float, strength: float) -> None:
    """Raises ValueError for a guidance scale or strength out of range."""
    if not 0 <= scale <= LARGEST_GUIDANCE_SCALE:
        raise ValueError(
            f"guidance_scale={scale:g}; expected 0 to {LARGEST_GUIDANCE_SCALE:g}, the released pipeline uses "
            f"{RELEASED_GUIDANCE_SCALE:g} and 1 is off"
        )
    if not 0 <= strength <= LARGEST_GUIDANCE_STRENGTH:
        raise ValueError(
            f"guidance_strength={strength:g}; expected 0 (no guidance) to {LARGEST_GUIDANCE_STRENGTH:g}, "
            "1 is as trained"
        )
