"""A folder as the release has it, at toy size: golden weights under the published names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from golden_model import golden_state, split_motion

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
    """Written by torch.save in fp32; the motion modules lie in a file of their own."""
    folder = tmp_path_factory.mktemp("published")
    for name in PUBLISHED:
        state = golden_state(name)
        if name == "denoising_unet":
            state, motion = split_motion(state)
            torch.save(motion, folder / f"{MOTION}.pth")
        torch.save(state, folder / f"{name}.pth")
    return folder


@pytest.fixture
def published(published_files: Path, tmp_path: Path) -> Path:
    """A folder of links to the published files: a test may replace any of them."""
    folder = tmp_path / "portrait"
    folder.mkdir()
    for path in published_files.iterdir():
        os.link(path, folder / path.name)
    return folder


@pytest.fixture
def replace(published: Path) -> Callable[[str, object], Path]:
    """replace(stem, state) puts another content into the place of a published file."""

    def put(stem: str, content: object, suffix: str = ".pth") -> Path:
        (published / f"{stem}.pth").unlink(missing_ok=True)
        path = published / f"{stem}{suffix}"
        torch.save(content, path)
        return path

    return put
