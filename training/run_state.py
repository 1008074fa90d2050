"""The state of a run in one file: what a stopped run needs to go on as if it had never stopped.

Rows, noise and learning rate follow from the number of the step, so weights, average, optimiser and that
number are all of it. Frozen weights are not stored; their fingerprint is, because they come from other files.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

VERSION = 1
FORMAT = "magicportrait_run_state"
NAME = "state.pt"


@dataclass(frozen=True)
class RunState:
    """All values on any device; written as they are."""

    step: int  # steps that were made
    options: dict[str, Any]  # TrainOptions.to_dict()
    frozen: str  # fingerprint of the weights that do not learn
    weights: Mapping[str, Tensor]  # those that learn
    average: Mapping[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any] | None = None  # of fp16 gradients


def write_state(path: Path, state: RunState) -> None:
    """Replace the file at once, or not at all: OSError of one sentence, as for a full disk."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    values = {"format": FORMAT, "version": VERSION, **vars(state), "options": json.dumps(state.options)}
    values |= {"weights": dict(state.weights), "average": dict(state.average)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{path.name}.*.part"):  # by a process that was killed while writing
            left.unlink(missing_ok=True)
        try:
            with part.open("wb") as file:
                torch.save(values, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError where its writer cannot write
        raise OSError(
            f"{path} cannot be written ({_first_line(error)}); free some space; the state of before stays"
        ) from error


def read_state(path: Path) -> RunState | None:
    """The state in `path`, on the CPU; None when there is none. ValueError of one sentence for a bad file."""
    if not path.is_file():
        return None
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        if values.pop("format") != FORMAT or values.pop("version") != VERSION:
            raise ValueError("another format or version")
        return RunState(**values | {"options": json.loads(values["options"])})
    except (
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise ValueError(
            f"{path} is no run state that can be read ({_first_line(error)}); delete it to begin anew, or "
            "choose another --output"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
