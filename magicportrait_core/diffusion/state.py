"""The state of a render between two windows, and the file that lets a killed render go on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..tensor_files import read_tensors, remove_file, write_tensors

logger = logging.getLogger("magicportrait")

FORMAT = "magicportrait_render_state"
VERSION = 1
WHAT = "state file of a render"
PREDICTION = "prediction."  # and the number of the window


@dataclass(frozen=True)
class RenderState:
    """All that changes while a clip is sampled; predictions are only ever added, window after window."""

    latents: Tensor  # (C, K, h, w) float32 on the CPU, at the start of `step`; K: see Layout
    step: int = 0
    predictions: list[Tensor] = field(default_factory=list)  # each (C, W, h, w), of the step's first windows


@dataclass(frozen=True)
class StateFile:
    """Where a render keeps its state. It stays after the last step: remove() it once the result is safe."""

    path: Path
    every_steps: int = 5  # a killed render loses at most so many; a cancelled one loses nothing

    def __post_init__(self):
        if self.every_steps < 1:
            raise ValueError(f"state saved every {self.every_steps} steps; expected at least 1")

    def save(self, state: RenderState, key: str) -> None:
        """Write the state; what goes wrong (a full disk) is logged, for the render can do without."""
        predictions = {f"{PREDICTION}{i}": p for i, p in enumerate(state.predictions)}
        metadata = {"format": FORMAT, "version": str(VERSION), "key": key, "step": str(state.step)}
        try:
            write_tensors(self.path, {"latents": state.latents, **predictions}, metadata)
        except OSError as error:
            logger.warning("the render goes on, but its state was not saved: %s", error)

    def load(self, key: str) -> RenderState | None:
        """The saved state of the render `key`, None where there is no file.

        Raises ValueError for a broken file and for one of another render: neither is used or overwritten.
        """
        if not self.path.exists():
            return None
        remedy = "choose another file, or delete it to start anew"
        try:
            tensors, metadata = read_tensors(self.path, FORMAT, VERSION, WHAT)
        except ValueError as error:
            raise ValueError(f"{error}; {remedy}") from error
        if metadata.get("key") != key:
            raise ValueError(
                f"{self.path} is the state of another render (another portrait, driving video, model, "
                f"seed, size, number of steps or windows); {remedy}"
            )
        predictions = [tensors[f"{PREDICTION}{i}"] for i in range(len(tensors) - 1)]
        return RenderState(tensors["latents"], int(metadata["step"]), predictions)

    def remove(self) -> None:
        """Delete the file, if there is one."""
        remove_file(self.path)
