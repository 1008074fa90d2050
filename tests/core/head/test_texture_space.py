"""FLAME's texture space against the released code's numbers, and files that are none."""

import io
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from magicportrait_core.head.files import HeadFileError
from magicportrait_core.head.texture_space import read_texture_space


@pytest.fixture(scope="module")
def recorded(golden):
    return load_file(golden / "released_misc.safetensors")


@pytest.fixture(scope="module")
def texture_file(recorded, tmp_path_factory):
    """The formula of the recorded values, as FLAME_texture.npz stores it (BGR, 0..255)."""
    y, x = np.mgrid[0:512, 0:512].astype(np.float32)
    mean = np.stack((100 + 50 * np.sin(x / 40), 120 + 60 * np.cos(y / 30), 90 + 0.1 * x + 0.05 * y), -1)
    waves = recorded["tex_fx"].numpy() * x[..., None] + recorded["tex_fy"].numpy() * y[..., None]
    waves = np.cos(2 * np.pi * waves / 512).astype(np.float32)
    components = recorded["tex_A"].numpy()[None, None] * waves[:, :, None]
    path = tmp_path_factory.mktemp("texture") / "FLAME_texture.npz"
    np.savez(path, mean=mean.astype(np.float32), tex_dir=components)
    return path


def test_albedo_matches_the_released_code(recorded, texture_file):
    albedo = read_texture_space(texture_file).albedo(recorded["texcode"])
    assert albedo.shape == (2, 3, 256, 256)
    expected = recorded["texture_stride4"]  # every 8th of the 256 texels
    torch.testing.assert_close(albedo[:, :, ::8, ::8], expected, atol=2e-6, rtol=0)
    assert (expected[0] - expected[1]).abs().max() > 0.1


def test_code_of_another_length_is_refused(texture_file):
    space = read_texture_space(texture_file)
    assert space.albedo(torch.zeros(1, 10)).equal(space.mean[None])
    with pytest.raises(ValueError, match=r"shape \(1, 200\); expected \(frames, at most 50\)"):
        space.albedo(torch.zeros(1, 200))


def test_other_files_are_named(tmp_path):
    def refused(match, **arrays):
        np.savez(tmp_path / "FLAME_texture.npz", **arrays)
        with pytest.raises(HeadFileError, match=match):
            read_texture_space(tmp_path / "FLAME_texture.npz")

    large = np.zeros((1024, 1024, 3), np.uint8)
    refused(r"mean has shape \(1024, 1024, 3\), expected 512 x 512", mean=large, tex_dir=large)
    right = np.zeros((512, 512, 3), np.uint8)
    refused("tex_dir has shape .* expected 512 x 512", mean=right, tex_dir=right)
    few = np.zeros((512, 512, 3, 10), np.uint8)
    refused("has 10 components, expected 50 or more", mean=right, tex_dir=few)
    refused("Basel face model and lacks mean, tex_dir", MU=right, PC=right)
    refused("holds a and lacks mean", a=right)
    hurt = np.full((512, 512, 3), np.nan, np.float16)
    refused("mean holds values that are not numbers", mean=hurt, tex_dir=few)


class Malicious:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (eval, (f"open({self.marker!r}, 'w').close()",))


def test_pickles_are_not_opened(tmp_path):
    path, marker = tmp_path / "FLAME_texture.npz", tmp_path / "executed"
    np.savez(path, mean=np.array([Malicious(marker)], dtype=object), tex_dir=np.zeros(1))
    with pytest.raises(HeadFileError, match="cannot be read as FLAME_texture.npz"):
        read_texture_space(path)
    assert not marker.exists()


@pytest.mark.parametrize("kept", [0, 100, 200_000])
def test_cut_and_foreign_files_are_refused(tmp_path, kept):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name in ("mean.npy", "tex_dir.npy"):
            file.writestr(name, b"\x93NUMPY" + bytes(300_000))
    path = tmp_path / "FLAME_texture.npz"
    path.write_bytes(data.getvalue()[:kept])
    with pytest.raises(HeadFileError, match="cut short or of another kind"):
        read_texture_space(path)
    with pytest.raises(HeadFileError, match="there is no texture file"):
        read_texture_space(tmp_path / "elsewhere.npz")
