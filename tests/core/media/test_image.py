"""Still pictures of every kind come in as (3, H, W) in [-1, 1]."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from magicportrait_core.media.image import (
    fit_within,
    from_levels,
    load_image,
    resize,
    save_image,
    to_levels,
)


def test_levels_and_values():
    levels = torch.tensor([[[0, 255, 128]]], dtype=torch.uint8)  # one pixel
    values = from_levels(levels)
    torch.testing.assert_close(values, torch.tensor([-1.0, 1.0, 128 / 127.5 - 1])[:, None, None])
    assert torch.equal(to_levels(values), levels)
    assert to_levels(torch.tensor([-3.0, 0.0, 3.0])[:, None, None]).flatten().tolist() == [0, 128, 255]


def test_saved_and_loaded_is_the_same(tmp_path):
    picture = from_levels(torch.randint(0, 256, (5, 7, 3), dtype=torch.uint8))
    save_image(picture, tmp_path / "picture.png")
    assert torch.equal(load_image(tmp_path / "picture.png"), picture)


def test_transparent_parts_show_the_background(tmp_path):
    path = tmp_path / "clear.png"
    Image.fromarray(np.array([[[255, 0, 0, 255], [255, 0, 0, 0]]], np.uint8)).save(path)
    for name, value in (("grey", 128 / 127.5 - 1), ("white", 1.0), ("black", -1.0)):
        picture = load_image(path, name)
        assert picture[:, 0, 0].tolist() == [1, -1, -1]
        assert picture[:, 0, 1].tolist() == pytest.approx([value] * 3, abs=1e-6)
    with pytest.raises(ValueError, match="background='pink'; expected one of grey, white, black"):
        load_image(path, "pink")


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA", "YCbCr"])
def test_any_mode_gives_three_channels(tmp_path, mode):
    # Pillow 12 writes TIFFs of YCbCr that it cannot read again.
    path = tmp_path / {"CMYK": "picture.tif", "YCbCr": "picture.jpg"}.get(mode, "picture.png")
    Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode).save(path)
    picture = load_image(path)
    assert picture.shape == (3, 4, 6) and float(picture.min()) > 0.95


def test_sixteen_bits_keep_their_range(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(path)
    assert load_image(path)[0, 0].tolist() == pytest.approx([-1, 0, 1], abs=1e-4)


def test_exif_rotation_is_applied(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show the picture turned clockwise
    stored = Image.new("RGB", (40, 20))
    stored.paste((255, 255, 255), (0, 0, 20, 20))
    stored.save(path, exif=exif, quality=95)
    picture = load_image(path)
    assert picture.shape == (3, 40, 20)
    assert float(picture[:, :15].mean()) > 0.9 and float(picture[:, 25:].mean()) < -0.9


def test_a_stream_and_an_animation(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), (255, 0, 0)).save(stream, "PNG")
    stream.seek(0)
    assert load_image(stream)[:, 0, 0].tolist() == [1, -1, -1]
    path = tmp_path / "moving.gif"
    red, blue = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    red.save(path, save_all=True, append_images=[blue])
    assert load_image(path)[:, 0, 0].tolist() == [1, -1, -1]


def test_files_that_are_no_picture_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no picture at 'none.png'; check the path"):
        load_image(tmp_path / "none.png")
    text = tmp_path / "text.png"
    text.write_text("hello")
    with pytest.raises(ValueError, match="'text.png' cannot be read as a picture .*save it again as PNG"):
        load_image(text)
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((64, 64), 50).save(whole)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:900])
    with pytest.raises(ValueError, match="'cut.jpg' cannot be read as a picture"):
        load_image(cut)
    with pytest.raises(ValueError, match="does not name a picture format"):
        save_image(torch.zeros(3, 2, 2), tmp_path / "picture.xyz")
    with pytest.raises(ValueError, match=r"picture is \(2, 3, 4, 4\)"):
        save_image(torch.zeros(2, 3, 4, 4), tmp_path / "two.png")


@pytest.mark.parametrize("method", ["area", "bicubic", "bilinear"])
def test_shrinking_stripes_gives_their_mean(method):
    stripes = torch.tensor([-1.0, 1.0]).repeat(32).expand(3, 64, 64)
    small = resize(stripes, (8, 8), method)
    assert float(small.abs().max()) < 0.15 and small.shape == (3, 8, 8)


def test_enlarging_stays_in_range_and_keeps_batches():
    edge = torch.ones(2, 3, 4, 4)
    edge[..., :2] = -1
    large = resize(edge, (16, 16))
    assert large.shape == (2, 3, 16, 16) and float(large.abs().max()) <= 1
    assert resize(edge, (4, 4)) is edge
    with pytest.raises(ValueError, match="expected height and width of at least 1"):
        resize(edge, (0, 4))
    with pytest.raises(ValueError, match="method='sharp'; expected"):
        resize(edge, (2, 2), "sharp")


def test_a_size_that_fits():
    assert fit_within((1080, 1920), 960) == (540, 960)
    assert fit_within((5000, 1), 100) == (100, 1)
