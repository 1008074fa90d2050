"""A model as a method that is measured: through the pipeline, as users run it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from magicportrait_core.built_in import BUILT_IN, built_in_model
from magicportrait_core.checkpoints.loading import load_model
from magicportrait_core.models.model import MagicPortraitModel
from magicportrait_core.render_options import ReenactOptions
from training.evaluation.footage import OnStage, Tools
from training.evaluation.scene import Scene, network_frames
from training.evaluation.store import method_name

if TYPE_CHECKING:
    from magicportrait_core.autoencoder import Autoencoder

SMALL_STEPS = (1, 4)


@dataclass(frozen=True)
class NetworkMethod:
    """A model with one number of steps."""

    model: MagicPortraitModel
    steps: int
    seed: int = 42
    vae: Autoencoder | None = None  # of models that work on latents
    text: Tensor | None = None  # None: the one stored with the model
    device: torch.device | None = None

    @property
    def name(self) -> str:
        return method_name(self.steps)

    @property
    def settings(self) -> str:
        vae = "" if self.vae is None else self.vae.fingerprint
        return f"{self.model.fingerprint} {self.model.dtype} {self.steps} {self.seed} {vae}"

    def frames(self, scene: Scene, tools: Tools, on_stage: OnStage) -> Tensor:
        options = ReenactOptions(steps=self.steps, seed=self.seed)
        return network_frames(scene, self.model, tools, options, self.vae, self.text, self.device, on_stage)


def model_folder(name: str) -> Path:
    """The folder of a model by its path, or of the built-in one by its name."""
    return built_in_model() if name == BUILT_IN and not Path(name).is_dir() else Path(name)


def open_model(name: str, dtype: torch.dtype) -> MagicPortraitModel:
    """Raises FileNotFoundError or ValueError with one sentence for a folder that cannot be used."""
    return load_model(model_folder(name), dtype)


def usual_steps(model: MagicPortraitModel) -> tuple[int, ...]:
    """Numbers of steps worth a look."""
    return SMALL_STEPS if model.config.prior is not None else (model.config.steps,)
