"""The square around the face, and frames pasted back into it."""

from __future__ import annotations

import pytest
import torch
from turning_head import track_of
from warped_clips import warped_clip

from magicportrait_core.face_view import FaceView, ViewedMaps, ViewedWarp, face_view
from magicportrait_core.guidance import render_guidance
from magicportrait_core.head.assets import load_head
from magicportrait_core.tracking.landmark_error import expected_landmarks

VIEW = FaceView(top=16, left=0, size=(64, 48), picture=(96, 80))  # ends at the picture's left edge only


@pytest.fixture(scope="module")
def head():
    return load_head()


def test_the_square_holds_the_face_and_stays_inside(head):
    track = track_of(head, size=(480, 640))
    view = face_view(head, track)
    points = expected_landmarks(head, track)
    points = points[:, points.isfinite().all(-1).all(0)]
    width = (points.amax(1) - points.amin(1))[:, 0].median()
    assert view.size[0] == view.size[1] >= 2.18 * float(width) - 1
    corner = points.new_tensor([view.left, view.top])
    assert points.min() > 0 and ((points - corner) > 0).all()
    assert ((points - corner) < view.size[0]).all()
    assert view.top >= 0 and view.top + view.size[0] <= 480
    assert view.left >= 0 and view.left + view.size[1] <= 640


def test_a_face_that_fills_the_picture_takes_it_whole(head):
    view = face_view(head, track_of(head, size=(96, 80)))
    assert view.size[1] == 80 or view.size[0] == 96
    assert view.top + view.size[0] <= 96 and view.left + view.size[1] <= 80


def test_maps_of_the_view_are_the_part_of_the_maps(head):
    track = track_of(head, frames=2)
    view = FaceView(20, 10, (60, 64), (96, 80))
    whole = render_guidance(head, track)
    part = render_guidance(head, view.cut_track(track))
    assert part.size == view.size
    for name in ("depth_levels", "normal_levels"):  # where the head ends, rounding decides
        same = (getattr(part, name).int() - view.cut(getattr(whole, name)).int()).abs() <= 1
        assert same.float().mean() > 0.995


def test_maps_of_another_size_are_cut_at_the_same_place(head):
    track = track_of(head, frames=2)
    view = FaceView(20, 10, (60, 64), (96, 80))
    half = view.of((48, 40))
    assert (half.top, half.left, half.size) == (10, 5, (30, 32)) and view.of((96, 80)) == view
    maps = render_guidance(head, track, size=(48, 40))
    part = ViewedMaps(maps, view)
    assert part.size == (30, 32) and part.num_frames == 2
    assert torch.equal(part[1:].depth_levels, maps.depth_levels[1:, :, 10:40, 5:37])
    with pytest.raises(ValueError, match="which is another aspect"):
        view.of((48, 48))


def test_pasting_fades_where_the_view_ends_inside_of_the_picture():
    picture, frame = torch.zeros(3, 96, 80), torch.ones(3, 64, 48)
    pasted = VIEW.paste(frame, picture)
    assert picture.max() == 0
    assert pasted[:, 16:80, :48].min() > 0 and pasted.sum() == pasted[:, 16:80, :48].sum()
    # A sixteenth of 64 rows and of 48 columns: 4 rows with 1/8, 3/8, 5/8, 7/8; 3 columns with 5/6, 3/6, 1/6.
    assert pasted[0, 16:22, 20].tolist() == pytest.approx([1 / 8, 3 / 8, 5 / 8, 7 / 8, 1, 1])
    assert pasted[0, 75:80, 20].tolist() == pytest.approx([1, 7 / 8, 5 / 8, 3 / 8, 1 / 8])
    assert pasted[0, 40, :3].tolist() == [1, 1, 1]
    assert pasted[0, 40, 44:49].tolist() == pytest.approx([1, 5 / 6, 3 / 6, 1 / 6, 0])


def test_an_equal_frame_changes_nothing_bit_for_bit():
    picture = torch.rand(3, 96, 80) * 2 - 1
    assert torch.equal(VIEW.paste(VIEW.cut(picture), picture), picture)


def test_the_warp_in_a_view():
    warped = warped_clip(5, (96, 80))
    viewed = ViewedWarp(warped, VIEW)
    assert viewed.num_frames == 5 and viewed.size == (64, 48)
    part = viewed[2:4]
    assert torch.equal(part.warp_levels, warped.warp_levels[2:4, :, 16:80, :48])
    assert torch.equal(part.labels, warped.labels[2:4, :, 16:80, :48])
    assert torch.equal(part.portrait, warped.portrait[:, 16:80, :48])
    assert torch.equal(part.turn, warped.turn[2:4])
    frames = list(viewed.paste(levels / 127.5 - 1 for levels in viewed[0:5].warp_levels))
    assert torch.equal(torch.stack(frames), warped.warp_levels / 127.5 - 1)
