"""Two layers of a real photo: a still background, whose pixels move, and what happens at the border."""

import dataclasses

import pytest
import torch

from magicportrait_core.warp import WarpOptions, prepare_warp, warp_frame
from magicportrait_core.warp.plate import still_background
from magicportrait_core.warp.two_layers import split_layers


def box_mask(size, top, bottom, left, right):
    mask = torch.zeros(size)
    mask[top:bottom, left:right] = 1
    return mask


@pytest.fixture(scope="module")
def sheet(head, photo, portrait):
    """The same portrait without layers."""
    return prepare_warp(head, photo, portrait, WarpOptions(layers=False))


def test_the_network_finds_the_astronaut(source, portrait):
    assert source.matte_source == "network"
    marks = portrait.landmarks[0, [1, 10, 33, 152, 263], :2].long()  # nose, forehead, eyes, chin
    assert source.layers.matte[0, marks[:, 1], marks[:, 0]].min() == 1
    assert source.layers.matte[0, :60, -20:].max() == 0  # the wall beside the hair


def test_the_plate_is_the_photo_where_there_is_nobody(source, photo):
    filled = source.layers.filled.bool().expand(3, -1, -1)
    assert torch.equal(source.layers.plate[~filled], photo[~filled])
    assert (source.layers.matte[source.layers.filled == 0] <= 0.05).all()


def test_a_hole_in_a_plain_wall_is_filled_with_the_wall():
    """The hole is a little larger than the dark thing in it."""
    wall = torch.full((3, 60, 80), 0.25)
    hole = box_mask((60, 80), 20, 50, 30, 60)[None]
    with_thing = wall.clone()
    with_thing[:, 24:46, 34:56] = -1
    torch.testing.assert_close(still_background(with_thing, hole, 1, 40.0), wall, rtol=0, atol=1e-4)


def test_level_lines_go_on_behind_the_person():
    """Horizontal stripes, and somebody who stands before them: just inside his outline the stripes go on."""
    stripes = torch.where(torch.arange(64) // 8 % 2 == 0, -0.5, 0.5)[None, :, None].repeat(3, 1, 80)
    hole = box_mask((64, 80), 0, 64, 40, 80)[None]
    photo = stripes.clone()
    photo[:, :, 45:] = 0.9
    filled = still_background(photo, hole, 1, 60.0)
    assert (filled[:, 4:60, 46] - stripes[:, 4:60, 46]).abs().max() < 0.1


def test_both_sides_make_the_photo_again(source, photo):
    layers = source.layers
    again = torch.lerp(layers.plate, layers.foreground, layers.matte) + layers.residual
    torch.testing.assert_close(again, photo, rtol=0, atol=1e-6)


def test_a_hair_before_a_wall_keeps_its_own_colour():
    """Half transparent pixels of red hair before a green wall are red in the foreground."""
    red, green = torch.tensor([0.8, -0.8, -0.8]), torch.tensor([-0.8, 0.8, -0.8])
    matte = torch.zeros(1, 40, 60)
    matte[:, :, :28] = 1
    matte[:, :, 28:32] = 0.5
    photo = green[:, None, None] + matte * (red - green)[:, None, None]
    layers = split_layers(photo, matte, torch.zeros(1, 40, 60), 40.0, "mask")
    fringe = layers.foreground[:, 20, 28:32].mean(1)
    torch.testing.assert_close(fringe, red, rtol=0, atol=0.3)
    assert layers.plate[1, 20, 29] > 0.5 and layers.plate[0, 20, 29] < -0.5


@pytest.mark.parametrize("turn", [(0, 15, 0), (12, 0, 0), (-8, -10, 8)])
def test_the_background_stands_still_bit_for_bit(source, portrait, moved, turn):
    """Around the head the wall is the photo's; where the head was, it is the plate's."""
    frame = warp_frame(source, moved(portrait, turn))
    nobody = (source.layers.filled[0] == 0).float()
    nobody[:, :128] = 0  # the wall right of the head
    unmoved = (frame.image == source.image).all(0)
    assert nobody.sum() > 3000 and unmoved[nobody > 0].float().mean() > 0.9  # the rest is where she moved to
    assert torch.equal(frame.image[:, 5:60, -20:], source.layers.plate[:, 5:60, -20:])


def test_the_sheet_bends_the_background(sheet, portrait, moved):
    assert sheet.matte_source is None
    frame = warp_frame(sheet, moved(portrait, (0, 15, 0)))
    assert (frame.image != sheet.image)[:, 5:60, -60:].any()


def test_what_a_moving_head_uncovers_counts_as_hole(source, portrait, moved):
    frame = warp_frame(source, moved(portrait, (-10, 8, 10)))
    bared = (frame.image == source.layers.plate).all(0) & (source.layers.filled[0] > 0)
    bared &= frame.flow.norm(dim=0) > 0.03 * source.face_width * source.scale
    assert bared.sum() > 20
    assert frame.hole[bared].min() > 0.9


def test_a_users_mask_wins(head, photo, portrait, moved):
    """A mask that leaves the hair out: the hair stays where it is."""
    marks = portrait.landmarks[0, :468, :2]
    mask = torch.zeros(photo.shape[-2:])
    mask[int(marks[10, 1]) :, 60:200] = 1
    masked = prepare_warp(head, photo, portrait, person_mask=mask)
    assert masked.matte_source == "mask"
    assert torch.equal(masked.layers.matte[0], mask)
    frame = warp_frame(masked, moved(portrait, (0, 12, 0)))
    hair = slice(5, int(marks[10, 1]) - 30)
    assert torch.equal(frame.image[:, hair, :50], photo[:, hair, :50])
    assert torch.equal(warp_frame(masked, portrait).image, photo)


def test_masks_of_another_size_and_empty_ones_are_refused(head, photo, portrait):
    with pytest.raises(ValueError, match=r"expected \(352, 256\)"):
        prepare_warp(head, photo, portrait, person_mask=torch.ones(256, 352))
    with pytest.raises(ValueError, match="black everywhere"):
        prepare_warp(head, photo, portrait, person_mask=torch.zeros(352, 256))


def test_where_the_network_sees_nobody_the_silhouette_serves(head, photo, portrait, moved):
    """The same face in noise that no network takes for a person."""
    noise = torch.rand(photo.shape, generator=torch.Generator().manual_seed(3)) * 2 - 1
    source = prepare_warp(head, noise, portrait)
    assert source.matte_source == "silhouette"
    marks = portrait.landmarks[0, :468, :2].long()
    assert source.layers.matte[0, marks[:, 1], marks[:, 0]].min() > 0.9
    assert source.layers.matte[0, :, -3:].max() == 0
    assert torch.equal(warp_frame(source, portrait).image, noise)
    assert torch.equal(warp_frame(source, moved(portrait, (0, 10, 0))).image[:, :, -3:], noise[:, :, -3:])


def test_hair_that_touches_the_border_covers_it_when_the_head_nods(head, photo, portrait, moved):
    """The photo cut at the hair's top: where hair is at the border, no background comes in from outside."""
    marks = portrait.landmarks[0]
    top = int(marks[10, 1]) - 12
    cut = photo[:, top:].contiguous()
    camera = portrait.camera.cropped(0, top, tuple(cut.shape[-2:]))
    track = dataclasses.replace(
        portrait, camera=camera, landmarks=marks[None] - marks.new_tensor([0, top, 0])
    )
    source = prepare_warp(head, cut, track)
    middle = round(float(marks[10, 0]))
    columns = slice(middle - 12, middle + 12)
    assert source.layers.matte[0, 0, columns].min() > 0.95
    frame = warp_frame(source, moved(track, (12, 0, 0)))
    assert float(frame.flow[1, 0, middle]) < -2  # its pixels come from above the picture
    seen, hair = frame.image[:, :6, columns].mean((1, 2)), cut[:, :6, columns].mean((1, 2))
    wall = cut[:, :6, -20:].mean((1, 2))
    assert (seen - hair).norm() < 0.5 * (seen - wall).norm()


def test_a_neighbour_keeps_its_pixels(head, photo, portrait, moved):
    """The same astronaut twice, side by side: one turns, the other is background."""
    size = tuple(photo.shape[-2:])
    pair = torch.cat((photo, photo.flip(-1)), dim=2).contiguous()
    camera = portrait.camera.cropped(0, 0, (size[0], 2 * size[1]))
    track = dataclasses.replace(portrait, camera=camera)
    source = prepare_warp(head, pair, track)
    neighbour = track.landmarks[0, :468, :2] * torch.tensor([-1.0, 1.0]) + torch.tensor([511.0, 0.0])
    columns, rows = neighbour.long().unbind(1)
    assert source.layers.matte[0, rows, columns].max() == 0
    frame = warp_frame(source, moved(track, (0, 15, 0)))
    assert torch.equal(frame.image[:, rows, columns], pair[:, rows, columns])
    assert torch.equal(frame.image[:, 100:200, 340:], pair[:, 100:200, 340:])
