"""Held-out clips on the way: numbers, and a sheet of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from magicportrait_core.media.image import save_image
from magicportrait_core.models.config import ModelConfig

from .augment import NO_AUGMENT
from .batch import Batch
from .clip_store import ClipStore
from .examples import Examples
from .objective import sample
from .step_inputs import cell_pictures, pictures_of, prepare_inputs
from .train_options import TrainOptions, ValidationOptions

if TYPE_CHECKING:
    from .curve import Curve
    from .trainer import Trainer

FOLDER = "validation"  # of the sheets, inside the run's output
SEED = 1  # of rows and noise: the same at every step
AT_ONCE = 8  # rows


@dataclass(frozen=True)
class Validation:
    """Always the same rows of a held-out store, without variations."""

    examples: Examples
    config: ModelConfig
    options: ValidationOptions

    @classmethod
    def of(cls, options: TrainOptions, config: ModelConfig) -> Validation | None:
        """None where the options name no folder."""
        wanted = options.validation
        if not wanted.folder:
            return None
        rows = min(AT_ONCE, wanted.rows)
        store = [(ClipStore(Path(wanted.folder)), 1.0)]
        return cls(Examples(store, config, options.data.window, rows, SEED, NO_AUGMENT), config, wanted)

    def report(self, trainer: Trainer, curve: Curve) -> None:
        """Numbers into the curve, a sheet into the run's folder; the main process alone computes."""
        if trainer.accelerator.is_main_process:
            values, sheet = self.measure(trainer)
            curve.validated(trainer.step, values)
            path = trainer.output / FOLDER / f"step_{trainer.step:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_image(sheet, path)
        trainer.accelerator.wait_for_everyone()

    @torch.no_grad()
    def measure(self, trainer: Trainer) -> tuple[dict[str, float], Tensor]:
        """Mean PSNR (dB) of the head for the still portrait, the warp and the averaged networks after some
        steps, and the sheet: a row each of portrait, truth, warp and the network's pictures."""
        sums: dict[str, list[Tensor]] = {}
        shown: list[Tensor] = []
        with trainer.average.in_place():
            for number in range(-(-self.options.rows // self.examples.batch)):
                batch = self.examples.batch_at(number)
                truth, head, pictures = self._pictures(trainer, batch, number)
                for name, picture in pictures.items():
                    sums.setdefault(name, []).append(head_psnr(picture, truth, head))
                shown += _rows(truth, pictures, self.options.pictures - len(shown))
        values = {name: torch.cat(parts)[: self.options.rows].mean().item() for name, parts in sums.items()}
        return values, torch.cat(shown, dim=-2)

    def _pictures(
        self, trainer: Trainer, batch: Batch, number: int
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Truth (B, 3, W, H, W), pixels of the head and what is compared with it, by name; on the CPU."""
        device = trainer.accelerator.device
        inputs = prepare_inputs(batch.to(device), self.config, trainer.vae)
        pictures = {"still": pictures_of(batch.reference)[:, :, None].expand(inputs.truth.shape)}
        if "warp" in batch.maps:
            pictures["warp"] = pictures_of(batch.maps["warp"]).movedim(1, 2)
        generator = torch.Generator().manual_seed(SEED + number)
        noise = self.config.noise_scale * torch.randn(inputs.latents.shape, generator=generator)
        for steps in self.options.steps:
            latents = sample(trainer.networks, inputs, noise.to(device), steps)
            pictures[f"steps_{steps}"] = self._decoded(trainer, latents).cpu()
        return inputs.truth.cpu(), inputs.head.cpu(), pictures

    def _decoded(self, trainer: Trainer, latents: Tensor) -> Tensor:  # (B, 3, W, H, W) in [-1, 1]
        if trainer.vae is None:
            return cell_pictures(latents, self.config).clamp(-1, 1)
        frames = latents.movedim(2, 1) / self.config.latent_scale  # (B, W, C, h, w)
        decoded = torch.stack(list(trainer.vae.decode(frames.flatten(0, 1))))
        return decoded.view(*frames.shape[:2], *decoded.shape[1:]).movedim(1, 2)


def head_psnr(
    picture: Tensor,  # (B, 3, W, H, W) in [-1, 1]
    truth: Tensor,
    head: Tensor,  # (B, 1, W, H, W) bool
) -> Tensor:  # (B,) dB
    """Peak signal to noise ratio over the pixels of the head; pictures span 2."""
    error = ((picture - truth) / 2).square().mean(1, keepdim=True) * head
    mean = error.flatten(1).sum(1) / head.flatten(1).sum(1).clamp(min=1)
    return -10 * torch.log10(mean + 1e-8)


def _rows(truth: Tensor, pictures: dict[str, Tensor], count: int) -> list[Tensor]:
    """The first frame of some rows, side by side: portrait, truth, then the others."""
    columns = [pictures["still"], truth, *(value for name, value in pictures.items() if name != "still")]
    return [torch.cat([column[i, :, 0] for column in columns], dim=-1) for i in range(min(count, len(truth)))]
