"""Random fields, colours and skins."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("skimage")

from magicportrait_core.head.assets import load_head
from training.synthesis.colour import to_encoded, to_linear
from training.synthesis.fields import bumps, fractal_noise, sample, soft_polygon
from training.synthesis.photo_skins import PhotoSkin, mix_in
from training.synthesis.photo_textures import TEXTURES, random_patch, texture_pictures
from training.synthesis.skin import TONES, paint_skin, random_tone
from training.synthesis.surface import head_surface


@pytest.fixture(scope="module")
def surface():
    return head_surface(load_head("open_head"), 192)


def test_middle_grey_is_a_fifth_of_the_light():
    """sRGB 0.5 is 0.2140 of full light (IEC 61966-2-1)."""
    assert to_linear(np.array([0.5]))[0] == pytest.approx(0.2140, abs=1e-4)
    assert to_encoded(np.array([0.2140]))[0] == pytest.approx(0.5, abs=1e-3)
    assert to_encoded(np.array([50.0]))[0] <= 1


def test_noise_has_unit_size_and_its_own_scale():
    noise = fractal_noise(np.random.default_rng(0), (64, 64), 4, 4)
    assert noise.shape == (64, 64, 1)
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert np.abs(np.diff(noise[..., 0], axis=1)).max() < 0.5  # 4 cells over 64 pixels change slowly


def test_a_polygon_is_full_inside_and_empty_outside():
    square = np.array([[8.0, 8.0], [24.0, 8.0], [24.0, 24.0], [8.0, 24.0]])
    mask = soft_polygon(square, (32, 32), 0)
    assert mask[16, 16] == 1 and mask[4, 4] == 0
    assert mask.sum() == pytest.approx(16 * 16, rel=0.15)
    assert soft_polygon(square, (32, 32), 0, grow=0.5).sum() == pytest.approx(8 * 8, rel=0.15)


def test_spots_beside_the_picture_do_no_harm():
    field = bumps((8, 8), np.array([[-100.0, 4.0], [4.0, 4.0]]), np.array([1.0, 1.0]), np.array([1.0, 2.0]))
    assert field.max() == field[4, 4] == 2


def test_sampling_reads_pixel_centres_and_goes_round():
    picture = np.arange(4, dtype=np.float32)[None, :, None].repeat(2, 0)
    values = sample(picture, np.array([0.5, 1.0, 4.5]), np.array([0.5, 0.5, 0.5]))[:, 0]
    assert values.tolist() == [0.0, 0.5, 0.0]


def test_free_pictures_are_those_with_a_clear_licence():
    assert all("CC0" in licence or "public domain" in licence for licence in TEXTURES.values())
    assert len(texture_pictures()) == len(TEXTURES)
    patch = random_patch(np.random.default_rng(0))
    assert patch.shape[0] == patch.shape[1] and patch.shape[2] == 3
    assert 0 <= patch.min() and patch.max() <= 1


def test_skin_has_the_tone_asked_for_and_eyes_have_pupils(surface):
    random = np.random.default_rng(3)
    tone = random_tone(random)
    assert TONES.min() * 0.6 < tone.min() and tone.max() < TONES.max() * 1.1
    texture = paint_skin(random, surface, tone, np.full(3, 0.05))
    cheek = surface.landmarks[50].astype(int)
    np.testing.assert_allclose(texture[cheek[1], cheek[0]], tone, rtol=0.6)
    for eye in surface.eyes:
        ball = texture.reshape(-1, 3)[eye.index]
        assert ball[eye.radius < 0.15].max() < 0.05 < ball[eye.radius > 1.3].mean()


def test_a_photo_lends_its_detail_but_not_its_tone(surface):
    """Where it is known, skin that is as bright as usual in the photo gets the tone; a line stays a line."""
    detail = np.zeros((192, 192, 3), np.float32)
    detail[:, 60] = -1.0
    texture = np.full((192, 192, 3), 0.5, np.float32)
    mask = np.zeros((192, 192), np.float32)
    mask[50:90, 40:80] = 1
    tone = np.array([0.2, 0.1, 0.05])
    random = np.random.default_rng(0)
    amount = mix_in(random, texture, tone, [PhotoSkin(detail, mask)])
    assert amount.max() >= 0.5
    outside = amount == 0
    np.testing.assert_allclose(texture[outside], 0.5, rtol=1e-5)
    plain = np.exp(np.log(0.5) * (1 - amount.max()) + np.log(tone) * amount.max())
    inside = texture[amount == amount.max()]
    np.testing.assert_allclose(np.median(inside, axis=0), plain, rtol=1e-3)
    assert inside.min() < 0.8 * plain.min()
