"""Edges that moving parts leave: beside the far cheek, at the picture's border, between lips, in eyes."""

import dataclasses

import pytest
import torch

from magicportrait_core.warp import WarpOptions, prepare_warp, warp_frame
from magicportrait_core.warp.anatomy import EYE_CORNERS, anatomy_of
from magicportrait_core.warp.fill import dilated
from magicportrait_core.warp.mouth import _wide
from magicportrait_core.warp.personal import outline_offsets
from magicportrait_core.warp.scene import scene_of

LIDS = (  # right, left: upper, lower
    ((246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155)),
    ((466, 388, 387, 386, 385, 384, 398), (249, 390, 373, 374, 380, 381, 382)),
)
SHUT = {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}


def covered_by(scene, size):
    """Pixels that the moved mesh covers."""
    whole = torch.zeros(1, *size)
    covered = scene.surface.picture(torch.ones(len(scene.surface.pixel)))
    scene.near.of(whole).copy_(covered)
    return whole


@pytest.mark.parametrize("turn", [20, -20])
def test_beside_the_far_cheek_there_is_the_plate(head, photo, portrait, moved, turn):
    """Somebody without hair: what the face leaves is background, not the old cheek."""
    size = tuple(photo.shape[-2:])
    bald = covered_by(
        scene_of(prepare_warp(head, photo, portrait, WarpOptions(layers=False)), portrait), size
    )
    source = prepare_warp(head, photo, portrait, person_mask=bald[0])
    target = moved(portrait, (0, turn, 0))
    frame = warp_frame(source, target)
    rim = round(0.05 * source.face_width)
    left = (bald > 0) & (dilated(covered_by(scene_of(source, target), size), rim) == 0)
    marks = portrait.landmarks[0]
    left[:, : int(marks[10, 1])] = False  # below the forehead
    left[:, int(marks[152, 1]) :] = False  # and above the chin
    assert left.sum() > 50
    same = (frame.image == source.layers.plate).all(0, keepdim=True)
    assert same[left].float().mean() > 0.85  # the rest is a moving ear


@pytest.mark.parametrize("turn", [22, -22])
def test_between_the_far_cheek_and_hair_there_is_no_line_of_background(head, photo, portrait, moved, turn):
    """Hair all around, as a mask that is white everywhere says: no plate is seen, whatever its colour."""
    source = prepare_warp(head, photo, portrait, person_mask=torch.ones(photo.shape[-2:]))
    red = torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand_as(photo).contiguous()
    other = dataclasses.replace(source, layers=dataclasses.replace(source.layers, plate=red))
    target = moved(portrait, (0, turn, 0))
    torch.testing.assert_close(
        warp_frame(source, target).image, warp_frame(other, target).image, rtol=0, atol=0.01
    )


def test_bare_skin_of_the_mesh_is_pulled_onto_the_person(head, photo, portrait):
    """A person who ends 3 % of the face's width inside the mesh's left cheek."""
    bare = anatomy_of(head).cheek > 0.1
    offsets = torch.zeros_like(head.template)
    points = portrait.camera.project(head.vertices(portrait.shape, portrait.expression, portrait.pose))[0]
    left, right = float(points[bare, 0].min()), float(points[bare, 0].max())
    edge = int(left + 0.03 * (right - left))
    person = torch.zeros(photo.shape[-2:], dtype=torch.bool)
    person[:, edge:] = True
    pulled = outline_offsets(head, portrait, offsets, bare, person, 1, 0.1 * (right - left))
    moved = head.vertices(portrait.shape, portrait.expression, portrait.pose, pulled)
    moved = portrait.camera.project(moved)[0, bare, 0]
    assert edge - left > 2 and edge - float(moved.min()) < 1
    assert abs(float(moved.max()) - right) < 0.1
    everybody = torch.ones_like(person)
    assert not outline_offsets(head, portrait, offsets, bare, everybody, 1, 10.0).any()


def test_nothing_is_mirrored_at_the_border_when_the_head_nods(head, photo, portrait, moved):
    """A green line eight pixels below the border: whoever nods shows it once, not again above."""
    marks = portrait.landmarks[0]
    top = int(marks[10, 1]) - 24
    cut = photo[:, top:].clone()
    cut[:, 8:11] = torch.tensor([-1.0, 1.0, -1.0])[:, None, None]
    camera = portrait.camera.cropped(0, top, tuple(cut.shape[-2:]))
    track = dataclasses.replace(
        portrait, camera=camera, landmarks=marks[None] - marks.new_tensor([0, top, 0])
    )
    frame = warp_frame(prepare_warp(head, cut, track), moved(track, (14, 0, 0)))
    middle = round(float(marks[10, 0]))
    assert float(frame.flow[1, 8, middle]) < -8  # these pixels come from above the picture
    column = frame.image[:, :60, middle]
    green = (column[1] - torch.maximum(column[0], column[2]) > 0.5).int()
    assert green.sum() >= 2
    assert (green.diff() == 1).sum() == 1  # it begins once, below the border


def test_a_slit_is_no_opening():
    """Four pixels of height: one row is a line between lips, ten rows are a mouth."""
    slit, mouth = torch.zeros(1, 40, 60), torch.zeros(1, 40, 60)
    slit[:, 20, 10:50] = 1
    mouth[:, 15:25, 10:50] = 1
    assert _wide(slit, 4.0).max() < 0.05
    assert _wide(mouth, 4.0)[:, 17:23, 14:46].min() > 0.95


def test_eyes_that_the_photo_shows_shut_open_with_iris_and_white(head, photo, portrait, moved):
    """Eyes painted over with plain skin, and a target that opens them."""
    landmarks = portrait.landmarks.clone()
    for upper, lower in LIDS:
        landmarks[0, list(upper)] = landmarks[0, list(lower)]
    track = dataclasses.replace(moved(portrait, **SHUT), landmarks=landmarks)
    marks = landmarks[0, :, :2]
    shut = photo.clone()
    boxes = []
    for outer, inner in EYE_CORNERS:
        low, high = torch.minimum(marks[outer], marks[inner]), torch.maximum(marks[outer], marks[inner])
        rows = slice(int(low[1]) - 12, int(high[1]) + 12)
        boxes.append((rows, slice(int(low[0]), int(high[0]) + 1)))
        shut[:, rows, int(low[0]) - 5 : int(high[0]) + 6] = torch.tensor([0.5, 0.2, 0.1])[:, None, None]
    source = prepare_warp(head, shut, track)
    assert torch.equal(warp_frame(source, source.track).image, shut)
    frame = warp_frame(source, moved(portrait, eyeBlinkLeft=0.0, eyeBlinkRight=0.0))
    for rows, columns in boxes:
        eye = frame.image[:, rows, columns].mean(0)
        assert eye.min() < -0.6  # a pupil
        blue = frame.image[2, rows, columns]
        assert blue.max() > 0.2  # white, which plain skin is not
