"""What a worker loads once: landmark network and head, and the licensed encoders or a VAE where given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from magicportrait_core.head.assets import load_head
from magicportrait_core.head.model import HeadModel
from magicportrait_core.tracking.landmarker import Landmarker, load_landmarker
from magicportrait_core.tracking.released_files import load_released_tracker
from magicportrait_core.tracking.released_tracker import ReleasedTracker
from training.preparation.options import PrepareOptions

if TYPE_CHECKING:
    from magicportrait_core.autoencoder import Autoencoder


@dataclass(frozen=True)
class Tools:
    device: torch.device
    landmarker: Landmarker
    head: HeadModel
    released: ReleasedTracker | None = None
    vae: Autoencoder | None = None


def load_tools(options: PrepareOptions, device: torch.device) -> Tools:
    """Raises FileNotFoundError or ValueError of one sentence for files that are missing or foreign."""
    landmarker, released, vae = load_landmarker(device), None, None
    if options.flame:
        released = load_released_tracker(
            options.flame,
            options.deca,
            options.smirk,
            options.texture,
            device=device,
            landmarker=landmarker,
        )
    if options.vae:
        from magicportrait_core.autoencoder import load_vae

        vae = load_vae(options.vae).to(device)
    head = released.head if released else load_head().to(device)
    return Tools(device, landmarker, head, released, vae)
