"""Real pictures from installed packages; a test whose package is absent is skipped."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from magicportrait_core.tracking.landmarker import Landmarker, load_landmarker

sys.path.append(str(Path(__file__).with_name("helpers")))  # synthetic_head


def find_package_file(name: str) -> Path:
    """Path of "package/inner/path"."""
    package, inner = name.split("/", 1)
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0]) / inner if spec else None
    if path is None or not path.is_file():
        pytest.skip(f"{name} is not installed")
    return path


def read_real_frame(name: str, frame: int = 0, repeat: int = 1) -> Tensor:
    """(3, H, W) in [-1, 1]; `repeat` 2 doubles each pixel."""
    with Image.open(find_package_file(name)) as picture:
        picture.seek(frame)
        pixels = np.asarray(picture.convert("RGB"))
    pixels = torch.from_numpy(pixels.repeat(repeat, 0).repeat(repeat, 1))
    return pixels.permute(2, 0, 1).float() / 127.5 - 1


@pytest.fixture(scope="session")
def package_file() -> Callable[[str], Path]:
    return find_package_file


@pytest.fixture(scope="session")
def real_frame() -> Callable[..., Tensor]:
    return read_real_frame


@pytest.fixture(scope="session")
def astronaut() -> Tensor:
    return read_real_frame("skimage/data/astronaut.png")


@pytest.fixture(scope="session")
def golden() -> Path:
    return Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(scope="session")
def released_folder(tmp_path_factory) -> Path:
    """Stand-ins of the licensed files, under their published names."""
    from released_files import write_released_files

    folder = tmp_path_factory.mktemp("released")
    write_released_files(folder)
    return folder


@pytest.fixture(scope="session")
def landmarker() -> Landmarker:
    return load_landmarker()
