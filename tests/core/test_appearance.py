"""A person's albedo and light from one portrait: synthetic ones with a known answer, and a real photo."""

from dataclasses import replace

import pytest
import torch
from turning_head import track_of

from magicportrait_core.appearance import HeadAppearance, appearance_from_portrait, plain_appearance
from magicportrait_core.guidance import render_guidance
from magicportrait_core.head.assets import load_head
from magicportrait_core.rendering.texture import spread, texel_fragments
from magicportrait_core.tracking.tracker import track_portrait

SIZE = (240, 200)


@pytest.fixture(scope="module")
def head():
    return load_head("open_head")


@pytest.fixture(scope="module")
def painted(head) -> HeadAppearance:
    """Skin with a pattern that is the same on both sides, in light from the left and above."""
    fragments = texel_fragments(head.uvs, head.faces_uv, 256)
    place = fragments.interpolate(head.template[None], head.faces)[0]  # (S, S, 3)
    waves = torch.stack([torch.sin(place[..., 1] * f) * torch.cos(place[..., 0] * f) for f in (90, 140, 60)])
    skin = torch.tensor([0.75, 0.58, 0.48])[:, None, None] * (1 + 0.12 * waves)
    plain = plain_appearance(head, 256)
    outer = ((head.regions == 0) & ~head.cavity)[fragments.triangle[0].clamp(min=0)] & fragments.covered[0]
    albedo = torch.where(outer, skin, plain.albedo)
    light = torch.zeros(9, 3)
    light[0], light[1], light[2], light[3] = 3.2, -0.25, 0.15, 0.2
    return HeadAppearance(spread(albedo, fragments.covered[0]), light)


@pytest.fixture(scope="module")
def portrait(head, painted):
    """A frontal track and the picture of it before a blue wall."""
    track = track_of(head, frames=1, size=SIZE)
    track = replace(track, pose=torch.zeros(1, 5, 3))
    return track, picture_of(head, track, painted)


def picture_of(head, track, appearance):
    maps = render_guidance(head, track, appearance)
    wall = torch.tensor([0.2, 0.3, 0.7])[:, None, None]
    return (maps.render[0] + (1 - maps.mask[0]) * wall) * 2 - 1


def turned(track, yaw: float):
    pose = track.pose.clone()
    pose[:, 1, 1] = yaw
    return replace(track, pose=pose)


def face_of(head, track) -> torch.Tensor:
    """(1, 1, H, W) skin that faces the camera, away from the outline."""
    maps = render_guidance(head, track)
    inner = -torch.nn.functional.max_pool2d(-maps.mask, 9, stride=1, padding=4)
    return (maps.signed_normal[:, 2:] > 0.55) & (inner > 0)


def psnr(a, b, where) -> float:
    error = ((a - b) ** 2).mean(1, keepdim=True)[where].mean()
    return (-10 * error.log10()).item()


def test_render_in_the_photos_own_pose_repeats_the_photo(head, painted, portrait):
    track, image = portrait
    found = render_guidance(head, track, appearance_from_portrait(head, track, image, 256)).render
    assert psnr(found, (image[None] + 1) / 2, face_of(head, track)) > 27


@pytest.mark.parametrize("yaw", [0.5, -0.5])
def test_turned_head_looks_as_the_person_would(head, painted, portrait, yaw):
    track, image = portrait
    appearance, aside = appearance_from_portrait(head, track, image, 256), turned(track, yaw)
    found = render_guidance(head, aside, appearance).render
    expected = render_guidance(head, aside, painted).render
    grey = render_guidance(head, aside).render
    where = face_of(head, aside)
    assert psnr(found, expected, where) > 22
    assert psnr(found, expected, where) > psnr(grey, expected, where) + 6
    # No wall on the skin: blue stays the weakest channel nearly everywhere on the head.
    head_mask = render_guidance(head, aside).mask > 0
    bluish = (found[:, 2:] > found[:, :1] + 0.05) & head_mask
    assert bluish.sum() < 0.01 * head_mask.sum()


def test_side_that_is_hidden_takes_the_other_sides_pattern(head, painted, portrait):
    track, _ = portrait
    aside = turned(track, 0.7)
    image = picture_of(head, aside, painted)
    found = render_guidance(head, track, appearance_from_portrait(head, aside, image, 256)).render
    expected = render_guidance(head, track, painted).render
    where = face_of(head, track)
    assert psnr(found, expected, where) > 20


def test_light_comes_from_where_it_came_from(head, portrait):
    track, image = portrait
    light = appearance_from_portrait(head, track, image, 128).light.mean(1)
    assert light[1] < -0.1 and light[2] > 0.05  # left and above


def test_grey_photo_gives_a_grey_head(head, portrait):
    track, image = portrait
    grey = image.mean(0, keepdim=True).expand(3, -1, -1)
    aligned = turned(track, 0.3)
    aligned = replace(aligned, expression=head.expressions(jawOpen=0.8))
    render = render_guidance(head, aligned, appearance_from_portrait(head, track, grey, 128)).render
    assert (render.amax(1) - render.amin(1)).max() < 0.03


def test_orthographic_portrait_works_as_well(head, painted):
    track = replace(track_of(head, 1, SIZE, "orthographic"), pose=torch.zeros(1, 5, 3))
    image = picture_of(head, track, painted)
    found = render_guidance(head, track, appearance_from_portrait(head, track, image, 256)).render
    assert psnr(found, (image[None] + 1) / 2, face_of(head, track)) > 27


def test_head_partly_outside_the_picture(head, painted, portrait):
    track, image = portrait
    camera = track.camera.cropped(60, 90, (120, 110))
    appearance = appearance_from_portrait(head, replace(track, camera=camera), image[:, 90:210, 60:170], 128)
    assert torch.isfinite(appearance.albedo).all() and 0 <= appearance.albedo.min()
    assert appearance.albedo.max() <= 1
    away = replace(track, camera=track.camera.cropped(900, 900, SIZE))
    with pytest.raises(ValueError, match="the head lies outside the picture"):
        appearance_from_portrait(head, away, image)


def test_black_and_white_frames_do_not_break_it(head, portrait):
    track, image = portrait
    for value in (-1.0, 1.0):
        appearance = appearance_from_portrait(head, track, torch.full_like(image, value), 64)
        assert torch.isfinite(appearance.albedo).all() and torch.isfinite(appearance.light).all()


def test_what_does_not_belong_together_is_refused(head, portrait):
    track, image = portrait
    with pytest.raises(ValueError, match="connect the same picture"):
        appearance_from_portrait(head, track, image[:, ::2, ::2])
    with pytest.raises(ValueError, match="tracked with head 'flame2020'"):
        appearance_from_portrait(head, replace(track, head="flame2020"), image)
    with pytest.raises(ValueError, match="has 3 frames; expected one"):
        appearance_from_portrait(head, track_of(head, 3, SIZE), image)


def test_real_photo_is_repeated(head, astronaut, landmarker):
    image = astronaut[:, :400, 60:460]
    track = track_portrait(image, landmarker, head)
    appearance = appearance_from_portrait(head, track, image)
    render = render_guidance(head, track, appearance).render
    assert psnr(render, (image[None] + 1) / 2, face_of(head, track)) > 22
    size = appearance.albedo.shape[-1]
    drawn = appearance.albedo[:, texel_fragments(head.uvs, head.faces_uv, size).covered[0]]
    assert 0.2 < drawn.mean() < 0.8
