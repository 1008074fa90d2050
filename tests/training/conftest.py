"""Small stores, and the scripts as users run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(Path(__file__).with_name("helpers")))  # drawn_clips, tiny_model


def script_environment() -> dict[str, str]:
    """One thread: several round sums in another order. No accelerator, no settings of the user's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    return environment | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="session")
def run_script() -> Callable[..., subprocess.CompletedProcess]:
    """run_script("train_appearance", *arguments): python -m training.train_appearance, to its end."""

    def run(name: str, *arguments: object, timeout: float = 300) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", f"training.{name}", *map(str, arguments)]
        return subprocess.run(
            command, cwd=ROOT, env=script_environment(), capture_output=True, text=True, timeout=timeout
        )

    return run


@pytest.fixture(scope="session")
def drawn_store(tmp_path_factory) -> Path:
    """Clips of drawn heads for the tiny model."""
    from drawn_clips import write_drawn_store

    return write_drawn_store(tmp_path_factory.mktemp("clips"))
