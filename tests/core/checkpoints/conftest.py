"""A folder as the release has it, at toy size: golden weights under the published names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from golden_model import GOLDEN_CONFIG, golden_state, split_motion
from safetensors.torch import save_file

from magicportrait_core.checkpoints.converting import convert

PUBLISHED = (
    "denoising_unet",
    "reference_unet",
    "guidance_encoder_depth",
    "guidance_encoder_normal",
    "guidance_encoder_render",
)
MOTION = "motion_module-47360"


@pytest.fixture(scope="session")
def published_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In fp32, as .pth and as .safetensors (faster to open); the motion modules have their own file."""
    folder = tmp_path_factory.mktemp("published")
    for name in PUBLISHED:
        state = golden_state(name)
        if name == "denoising_unet":
            state, motion = split_motion(state)
            torch.save(motion, folder / f"{MOTION}.pth")
            save_file(motion, folder / f"{MOTION}.safetensors", {"format": "pt"})
        torch.save(state, folder / f"{name}.pth")
        save_file(state, folder / f"{name}.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def converted_files(published_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published files, converted."""
    folder = tmp_path_factory.mktemp("converted")
    convert(published_files, folder, config=GOLDEN_CONFIG)
    return folder


def linked(files: Path, folder: Path, suffix: str) -> Path:
    """Links: a test may replace any of the files, but must not write into one."""
    folder.mkdir()
    for path in files.glob(f"*{suffix}"):
        os.link(path, folder / path.name)
    return folder


@pytest.fixture
def published_pth(published_files: Path, tmp_path: Path) -> Path:
    """A folder with the files as they are published."""
    return linked(published_files, tmp_path / "portrait", ".pth")


@pytest.fixture
def published(published_files: Path, tmp_path: Path) -> Path:
    """A folder with the published files saved as .safetensors."""
    return linked(published_files, tmp_path / "portrait", ".safetensors")


@pytest.fixture
def converted(converted_files: Path, tmp_path: Path) -> Path:
    """A folder with the converted files."""
    return linked(converted_files, tmp_path / "converted", ".safetensors")


@pytest.fixture
def replace(published: Path) -> Callable[[str, object], Path]:
    """replace(stem, content) puts a .pth file with another content into the place of a published file."""

    def put(stem: str, content: object) -> Path:
        for path in published.glob(f"{stem}.*"):
            path.unlink()
        torch.save(content, published / f"{stem}.pth")
        return published / f"{stem}.pth"

    return put
