"""Messages with which folders of model files are refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from golden_model import GOLDEN_CONFIG

from magicportrait_core.checkpoints.loading import load_model


def refusal(folder: Path, **options) -> str:
    """The message with which the folder is refused."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load_model(folder, **({"config": GOLDEN_CONFIG} | options))
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_says(message: str, *parts: str) -> None:
    """All parts, in this order."""
    assert re.search(".*".join(map(re.escape, parts)), message), message


def swap(folder: Path, first: str, second: str) -> None:
    (folder / first).rename(folder / "third")
    (folder / second).rename(folder / first)
    (folder / "third").rename(folder / second)
