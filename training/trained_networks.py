"""The networks of one phase as a single module: what runs with gradients, and which parameters learn."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor, nn

from magicportrait_core.checkpoints.opening import Networks
from magicportrait_core.models.config import ModelConfig

from .step_inputs import StepInputs
from .train_options import Phase

NETWORKS = ("appearance_net", "denoising_unet", "guidance_encoders")


class TrainedNetworks(nn.Module):
    """Predicts the networks' output for noised latents.

    Phase "appearance": AppearanceNet, guidance encoders and the Denoising UNet without its motion modules
    learn, on single pictures. Phase "motion": the motion modules alone, everything else is frozen.
    """

    def __init__(self, networks: Networks, config: ModelConfig, phase: Phase, text: Tensor):
        super().__init__()
        self.appearance_net = networks.appearance_net
        self.denoising_unet = networks.denoising_unet
        self.guidance_encoders = networks.guidance_encoders
        self.config, self.phase = config, phase
        self.register_buffer("text", text, persistent=False)  # (1, N, D)
        appearance = phase == "appearance"
        self.requires_grad_(appearance)
        for module in self.denoising_unet.motion_modules():
            module.requires_grad_(not appearance)

    def forward(
        self,
        inputs: StepInputs,
        latents: Tensor,  # (B, C, W, h, w)
        timesteps: Tensor,  # (B,)
        reads_reference: Tensor | None = None,  # (B,) bool; None: all
    ) -> Tensor:  # (B, C, W, h, w): F of a preconditioned model, else v
        appearance = self.phase == "appearance"
        with torch.set_grad_enabled(appearance and torch.is_grad_enabled()):
            tokens = self.appearance_net(inputs.reference, self.text)
            conditioning = self.denoising_unet.condition(tokens, self.text)
            features = self.guidance_encoders(inputs.maps)
        guidance = rearrange(features, "(b w) c y x -> b c w y x", b=inputs.rows)
        return self.denoising_unet(
            latents, timesteps, conditioning, guidance, reads_reference, motion=not appearance
        )

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that learn."""
        return ((name, value) for name, value in self.named_parameters() if value.requires_grad)

    def networks(self) -> Networks:
        return Networks(self.appearance_net, self.denoising_unet, self.guidance_encoders)

    def enable_gradient_checkpointing(self) -> None:
        self.appearance_net.enable_gradient_checkpointing()
        self.denoising_unet.enable_gradient_checkpointing()

    def counts(self) -> dict[str, tuple[int, int]]:
        """Parameters that learn, and all, of each network."""
        counts = {}
        for name in NETWORKS:
            parameters = list(getattr(self, name).parameters())
            learning = sum(p.numel() for p in parameters if p.requires_grad)
            counts[name] = (learning, sum(p.numel() for p in parameters))
        return counts
