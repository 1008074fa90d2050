"""Guidance maps against the released renderer's pictures, and facts about them."""

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from turning_head import track_of

from magicportrait_core.appearance import HeadAppearance, plain_appearance
from magicportrait_core.guidance import GuidanceMaps, render_guidance
from magicportrait_core.guidance_pictures import depth_picture, normal_picture
from magicportrait_core.head.assets import load_head
from magicportrait_core.head.skinning import vertex_normals
from magicportrait_core.rendering import shading_numba
from magicportrait_core.rendering.rasterizer import FRAMES_AT_ONCE, rasterize
from magicportrait_core.rendering.shading import (
    SH_CONSTANTS,
    Surface,
    level,
    nearness,
    sample_texture,
    shade,
    shade_levels,
    spherical_harmonics,
    to_map,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(scope="module")
def head():
    return load_head("open_head")


def released_surface(golden) -> tuple[torch.Tensor, Surface]:
    faces = golden["faces"].long()
    screen = golden["transformed_vertices"].clone()
    screen[..., :2] = (screen[..., :2] + 1) * 32  # normalised to pixels of 64x64
    surface = Surface(
        faces=faces,
        normals=vertex_normals(golden["vertices"], faces),
        nearness=nearness(screen[..., 2]),
        uv_corners=golden["uvcoords"][golden["uvfaces"].long()],
        albedo=golden["albedo"][0],
        light=golden["lights_sh"][0],
    )
    return screen, surface


def test_released_maps():
    golden = load_file(GOLDEN / "render_io.safetensors")
    screen, surface = released_surface(golden)
    torch.testing.assert_close(surface.normals, golden["vertex_normals"], rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.tensor(SH_CONSTANTS), golden["constant_factor"])
    fragments = rasterize(screen, surface.faces, (64, 64), perspective=False)
    assert torch.equal(fragments.covered[:, None], golden["alpha"].bool())
    shaded = shade(fragments, surface)
    for name, values in (("depth", shaded.depth), ("normal", shaded.normal), ("", shaded.render)):
        expected = golden[f"{name}_images" if name else "images"]
        found = to_map(values, shaded.pixel, (1, 64, 64))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        assert (level(found).int() - level(expected).int()).abs().max() <= 1


def test_released_depth_of_a_wide_picture():
    golden = load_file(GOLDEN / "render_io.safetensors")
    screen, surface = released_surface(golden)
    screen = golden["transformed_vertices"].clone()
    screen[..., :2] = (screen[..., :2] + 1) * torch.tensor([40.0, 24.0])
    fragments = rasterize(screen, surface.faces, (48, 80), perspective=False)
    assert torch.equal(fragments.covered[:, None], golden["alpha_48x80"].bool())
    shaded = shade(fragments, surface)
    found = to_map(shaded.depth, shaded.pixel, (1, 48, 80))
    torch.testing.assert_close(found, golden["depth_48x80"], rtol=0, atol=1e-4)


def test_numba_shades_as_torch_does():
    pytest.importorskip("numba")
    golden = load_file(GOLDEN / "render_io.safetensors")
    screen, surface = released_surface(golden)
    fragments = rasterize(screen, surface.faces, (64, 64), perspective=False)
    pairs = zip(
        shading_numba.shade_levels_numba(fragments, surface), shade_levels(fragments, surface), strict=True
    )
    for found, expected in pairs:
        assert (found.int() - expected.int()).abs().max() <= 1
    assert shading_numba.works()


def test_light_from_the_front_by_hand():
    terms = spherical_harmonics(torch.tensor([0.0, 0.0, 1.0]))
    first = 1 / math.sqrt(4 * math.pi)
    second = 2 * math.pi / 3 * math.sqrt(3 / (4 * math.pi))
    last = 2 * math.pi / 4 / 2 * math.sqrt(5 / (4 * math.pi))
    expected = torch.tensor([first, 0, 0, second, 0, 0, 0, 0, last])
    torch.testing.assert_close(terms, expected)


def test_texture_rows_run_down_and_v_runs_up():
    texture = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    uv = torch.tensor([[0.25, 0.75], [0.75, 0.75], [0.25, 0.25], [0.5, 0.5]])
    torch.testing.assert_close(sample_texture(texture, uv)[:, 0], torch.tensor([1.0, 2.0, 3.0, 2.5]))


def test_levels_clip_negative_and_bright_values():
    values = torch.tensor([-0.4, 0.0, 1 / 255, 0.5, 1.0, 1.7])
    assert level(values).tolist() == [0, 0, 1, 128, 255, 255]


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_frames_do_not_depend_on_their_batch(head, projection):
    track = track_of(head, projection=projection)
    together = render_guidance(head, track)
    assert together.num_frames == 3 and together.size == (96, 80)
    assert 0.15 < together.mask.mean() < 0.6
    for frame in range(3):
        alone = render_guidance(head, track[frame : frame + 1])
        for field in fields(GuidanceMaps):
            assert torch.equal(getattr(together, field.name)[frame], getattr(alone, field.name)[0])


def test_frames_drawn_together_as_on_a_gpu_are_the_same(head, monkeypatch):
    track = track_of(head)
    expected = render_guidance(head, track, backend="torch")
    monkeypatch.setitem(FRAMES_AT_ONCE, "cpu", 2)
    found = render_guidance(head, track, backend="torch")
    for field in fields(GuidanceMaps):
        difference = (getattr(found, field.name).int() - getattr(expected, field.name).int()).abs()
        assert (difference > 1).float().mean() < 1e-4


def test_torch_and_numba_give_the_same_maps(head):
    pytest.importorskip("numba")
    track = track_of(head)
    found, expected = (render_guidance(head, track, backend=name) for name in ("numba", "torch"))
    for field in fields(GuidanceMaps):
        difference = (getattr(found, field.name).int() - getattr(expected, field.name).int()).abs()
        assert (difference > 1).float().mean() < 1e-4


def test_maps_of_the_network_and_of_people(head):
    maps = render_guidance(head, track_of(head))
    inside = maps.mask.bool()
    assert maps.depth.min() >= 0 and maps.depth.max() > 0.9
    assert not maps.depth[~inside].any() and not maps.render.masked_select(~inside).any()
    torch.testing.assert_close(maps.normal, maps.signed_normal.clamp(min=0))
    assert maps.signed_normal.min() < -0.5
    length = maps.signed_normal.norm(dim=1, keepdim=True)[inside]
    assert length.median() > 0.97 and length.max() < 1.01
    people = normal_picture(maps)
    assert people.min() >= 0 and people.max() <= 1
    depth = depth_picture(maps)
    assert depth[inside].min() >= 0.1 and depth[inside].max() == 1 and not depth[~inside].any()


def test_nearest_vertex_is_one_and_farthest_is_zero():
    torch.testing.assert_close(nearness(torch.tensor([[2.0, 3.0, 4.0]])), torch.tensor([[1.0, 0.5, 0.0]]))
    assert torch.equal(nearness(torch.tensor([[2.0, 2.0]])), torch.zeros(1, 2))


def test_size_scales_the_picture_and_keeps_the_aspect(head):
    track = track_of(head, frames=1)
    large = render_guidance(head, track, size=(192, 160))
    small = torch.nn.functional.avg_pool2d(large.mask, 2)
    assert (small - render_guidance(head, track).mask).abs().mean() < 0.02
    with pytest.raises(ValueError, match="without changing its aspect"):
        render_guidance(head, track, size=(192, 192))


def test_a_turned_camera_turns_the_normals(head):
    track = track_of(head, frames=1)
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # a quarter turn of the picture
    square = replace(track, camera=replace(track.camera, size=(96, 96)))
    centred = replace(
        square, camera=replace(square.camera, intrinsics=torch.tensor([[2.6 * 96, 48.0, 48.0]]))
    )
    upright = render_guidance(head, centred).signed_normal
    turned_camera = replace(centred.camera, view=turn @ centred.camera.view)
    turned = render_guidance(head, replace(centred, camera=turned_camera)).signed_normal
    expected = torch.rot90(upright, 1, (2, 3))
    expected = torch.stack((-expected[:, 1], expected[:, 0], expected[:, 2]), dim=1)
    assert ((turned - expected).abs().amax(1) > 0.05).float().mean() < 0.02


def test_progress_hands_out_pictures_and_may_stop_the_work(head):
    seen = []

    def on_frame(done, total, picture):
        seen.append((done, total))
        assert picture().shape == (3, 96, 80) and picture().min() >= -1
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_guidance(head, track_of(head), on_frame=on_frame)
    assert seen == [(1, 3), (2, 3)]


def test_a_track_of_another_head_is_refused(head):
    with pytest.raises(ValueError, match="made with head 'flame2020', but the head given is 'open_head'"):
        render_guidance(head, replace(track_of(head), head="flame2020"))


def test_appearance_colours_the_render_only(head):
    plain = plain_appearance(head, 64)
    red = HeadAppearance(plain.albedo * torch.tensor([1.0, 0.0, 0.0])[:, None, None], plain.light)
    track = track_of(head, frames=1)
    a, b = render_guidance(head, track, plain), render_guidance(head, track, red)
    assert torch.equal(a.depth_levels, b.depth_levels) and torch.equal(a.normal_levels, b.normal_levels)
    assert torch.equal(a.render_levels[:, 0], b.render_levels[:, 0]) and not b.render_levels[:, 1:].any()
    with pytest.raises(ValueError, match="needs albedo \\(3, S, S\\)"):
        HeadAppearance(torch.zeros(3, 4, 5), plain.light)
