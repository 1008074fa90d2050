"""Real pictures for tests, from installed packages; a test whose package is absent is skipped."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
ASTRONAUT = "skimage/data/astronaut.png"
TWO_FACES = "comfyui_workflow_templates_media_image/templates/utility_hitpaw_video_enhance-2.webp"
WOMAN_SMILES = "comfyui_workflow_templates_media_video/templates/video_wan2_2_14B_t2v-1.webp"
CUTS = "comfyui_workflow_templates_media_other/templates/api_seedance2_0_r2v-1.webp"


def package_file(name: str) -> Path:
    """Path of "package/inner/path"."""
    package, inner = name.split("/", 1)
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0]) / inner if spec else None
    if path is None or not path.is_file():
        pytest.skip(f"{name} is not installed")
    return path


def real_frame(name: str, frame: int = 0, repeat: int = 1) -> Tensor:
    """(3, H, W) in [-1, 1]."""
    with Image.open(package_file(name)) as picture:
        picture.seek(frame)
        pixels = np.asarray(picture.convert("RGB"))
    pixels = torch.from_numpy(pixels.repeat(repeat, 0).repeat(repeat, 1))
    return pixels.permute(2, 0, 1).float() / 127.5 - 1
