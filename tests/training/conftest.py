"""Small stores and small runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from drawn_clips import write_drawn_store
from tiny_model import TINY

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def drawn_store(tmp_path_factory) -> Path:
    """Clips of drawn heads for the tiny model."""
    return write_drawn_store(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="session")
def tiny_sizes(tmp_path_factory) -> Path:
    """A file for model.config."""
    path = tmp_path_factory.mktemp("sizes") / "tiny.json"
    path.write_text(json.dumps(TINY.to_json()))
    return path


@pytest.fixture(scope="session")
def arguments_of(tiny_sizes) -> Callable[..., list[str]]:
    """arguments_of(data, output, {"run.steps": 3, ...}, more...): a command line for the tiny model."""

    def build(data: Path, output: Path, options: dict[str, object] | None = None, *more: object) -> list[str]:
        values = {
            "model.config": tiny_sizes,
            "data.batch": 4,
            "run.tracker": "none",
            "run.log_every": 1,
            "compute.cpu": "true",
        } | (options or {})
        sets = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
        return ["--data", str(data), "--output", str(output), *sets, *map(str, more)]

    return build


@pytest.fixture(scope="session")
def train() -> Callable[[str, list[str]], int]:
    """train("appearance", arguments): the script in this process, on one thread; its exit code."""
    from training.command import main

    def run(phase: str, arguments: list[str]) -> int:
        with one_thread(), new_accelerate():
            return main(phase, "", arguments)

    return run


@pytest.fixture(scope="session")
def script_settings() -> dict:
    """For subprocess: the pack's folder; one thread, because several round sums in another order; and neither
    an accelerator nor settings of the user's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
    return {"cwd": ROOT, "env": environment, "text": True}


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread, as in script_settings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def new_accelerate() -> Iterator[None]:
    """accelerate keeps its first settings for the life of a process, unless it is told to forget them."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
