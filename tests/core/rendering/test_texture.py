"""Filling, mirroring and lighting of textures, on cases that can be worked out by hand."""

import torch

from magicportrait_core.rendering.background import background_colours, background_within, unlike
from magicportrait_core.rendering.lighting import BRIGHTEST, DARKEST, _directions, fit_light
from magicportrait_core.rendering.mesh_fill import fill_vertices
from magicportrait_core.rendering.shading import SH_CONSTANTS, spherical_harmonics
from magicportrait_core.rendering.texture import mirrored_corners, paint_faces, spread, texel_fragments

SQUARE_UV = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
SQUARE = torch.tensor([[0, 1, 2], [1, 3, 2]])


def test_texels_lie_under_their_faces_and_v_runs_up():
    triangle = texel_fragments(SQUARE_UV, SQUARE, 16).triangle[0]
    assert triangle[10, 5] == 0 and triangle[5, 10] == 1  # lower left, upper right
    assert triangle[2, 2] == -1


def test_painted_texture_continues_beyond_the_islands():
    colours = torch.tensor([[0.2, 0.4, 0.6], [0.2, 0.4, 0.6]])
    texture = paint_faces(SQUARE_UV, SQUARE, colours, 16)
    torch.testing.assert_close(texture, colours[0, :, None, None].expand(3, 16, 16))


def test_spread_keeps_what_is_known_and_fills_between():
    texture, known = torch.zeros(1, 8, 8), torch.zeros(8, 8, dtype=torch.bool)
    texture[0, :, 0], texture[0, :, 7] = 1.0, 3.0
    known[:, 0] = known[:, 7] = True
    filled = spread(texture, known)
    assert torch.equal(filled[0][known], texture[0][known])
    assert (filled[0].diff(dim=1) > -1e-5).all() and 1 <= filled.min() and filled.max() <= 3
    assert torch.equal(spread(texture, torch.zeros_like(known)), torch.zeros(1, 8, 8))


def test_fill_is_linear_along_a_strip():
    # Two rows of nine vertices; the ends are known, 0 on the left and 1 on the right.
    a = torch.arange(8)
    faces = torch.cat((torch.stack((a, a + 1, a + 9), 1), torch.stack((a + 1, a + 10, a + 9), 1)))
    weight = torch.zeros(19)
    weight[[0, 9, 8, 17]] = 1e4
    values = torch.zeros(19, 1)
    values[[8, 17]] = 1.0
    filled = fill_vertices(values, weight, faces, torch.tensor([7.0]))[:, 0]
    torch.testing.assert_close(filled[[0, 4, 8]], torch.tensor([0.0, 0.5, 1.0]), rtol=0, atol=0.05)
    assert (filled[:9].diff() > 0).all()
    assert filled[18] == 7.0  # connected to nothing


def test_mirrored_corners_swap_the_sides():
    uvs = torch.tensor([[0.1, 0.1], [0.2, 0.1], [0.1, 0.2], [0.9, 0.1], [0.8, 0.1], [0.9, 0.2]])
    faces = torch.tensor([[0, 1, 2], [3, 5, 4]])
    corners, together = mirrored_corners(uvs, faces, faces, torch.tensor([3, 4, 5, 0, 1, 2]))
    torch.testing.assert_close(corners[0], uvs[[3, 4, 5]])
    assert together.all()
    torn = uvs.clone()
    torn[4] = torch.tensor([0.1, 0.99])
    assert mirrored_corners(torn, faces, faces, torch.tensor([3, 4, 5, 0, 1, 2]))[1].tolist() == [False, True]


def test_light_of_an_evenly_coloured_surface_is_recovered():
    normals = _directions(torch.zeros(0), 600)
    normals = normals[normals[:, 2] > 0.2]
    light = torch.zeros(9, 3)
    light[0] = 1 / SH_CONSTANTS[0]
    light[1], light[3] = torch.tensor([0.3, 0.2, 0.1]), 0.2
    shading = spherical_harmonics(normals) @ light
    colour = torch.tensor([0.6, 0.5, 0.4])
    samples = colour * shading
    samples[::10] *= 0.2  # hair and brows
    found = spherical_harmonics(normals) @ fit_light(normals, samples, torch.ones(len(normals)))
    ratio = found / shading
    assert (ratio / ratio.mean(0) - 1).abs().max() < 0.06
    torch.testing.assert_close(found.mean(0), torch.ones(3), rtol=0, atol=1e-4)


def test_harsh_light_is_kept_within_limits():
    normals = _directions(torch.zeros(0), 300)
    normals = normals[normals[:, 2] > 0.3]
    samples = (normals[:, :1] > 0).float().expand(-1, 3) * 0.9 + 0.02
    light = fit_light(normals, samples, torch.ones(len(normals)))
    shading = spherical_harmonics(_directions(light)) @ light
    assert shading.min() > DARKEST - 1e-3 and shading.max() < BRIGHTEST + 1e-3
    assert (light[1] > 0.1).all()  # it does come from the right


def test_background_is_found_from_outside_only():
    skin, grey = torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.3, 0.3, 0.3])
    row, column = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    away = torch.hypot(row - 19.5, column - 19.5)
    outside = away > 15
    picture = torch.where(away < 13, skin[:, None, None], grey[:, None, None])  # fitted 2 pixels too large
    picture[:, 12:14, 16:24] = grey[:, None, None]  # a brow
    colours = background_colours(picture)
    found = background_within(picture, outside, colours, skin)
    assert torch.equal(found, (away >= 13) & ~outside)
    assert len(unlike(colours, torch.cat([grey[None]] * 5))) == 0
    assert not background_within(picture, outside, colours[:0], skin).any()
