"""DECA's camera against the released code's numbers (tests/golden/flame_io)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from magicportrait_core.tracking.weak_perspective import (
    crop_to_picture,
    project_to_crop,
    weak_perspective_camera,
)


@pytest.fixture(scope="module")
def golden():
    return load_file(Path(__file__).parents[2] / "golden" / "flame_io.safetensors")


def test_projection_matches_the_released_code(golden):
    projected = project_to_crop(golden["vertices"], golden["cam"])
    torch.testing.assert_close(projected, golden["projected"], atol=1e-6, rtol=0)


def test_place_in_the_picture_matches_the_released_code(golden):
    placed = crop_to_picture(golden["projected"], golden["tform"])
    torch.testing.assert_close(placed, golden["image_space"], atol=1e-6, rtol=0)


def test_one_camera_does_both(golden):
    camera = weak_perspective_camera(golden["cam"], golden["tform"], (512, 512))
    pixels = camera.project(golden["vertices"])[..., :2]
    torch.testing.assert_close(pixels, (golden["image_space"][..., :2] + 1) * 256, atol=5e-4, rtol=0)


def test_turned_crop_is_refused():
    turned = torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    with pytest.raises(ValueError, match="turns the picture"):
        weak_perspective_camera(torch.ones(1, 3), turned, (512, 512))
