"""The warp of a real photo: stillness, direction, limits, any size, what the tracker sees in it."""

import dataclasses
import logging
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from magicportrait_core.head.skinning import axis_angle_to_matrix
from magicportrait_core.warp import (
    SOURCES,
    WarpOptions,
    prepare_warp,
    source_map_picture,
    source_shares,
    warp_clip,
    warp_frame,
)
from magicportrait_core.warp.field import plane_flow
from magicportrait_core.warp.motion import SkullMotion, move_head
from magicportrait_core.warp.sources import COLOURS


def test_no_motion_returns_the_photo_bit_for_bit(source, portrait):
    frame = warp_frame(source, portrait)
    assert torch.equal(frame.image, source.image)
    assert frame.hole.max() == 0
    assert frame.flow.abs().max() == 0


def test_a_little_motion_changes_a_little(source, portrait, moved):
    """Repairs come in with the motion: none of them acts at rest and pops up with the first change."""
    still = warp_frame(source, moved(portrait, (0, 0.05, 0)))
    assert (still.image - source.image).abs().mean() < 2e-3
    assert (still.image - source.image).abs().max() < 0.35  # a twentieth of a pixel across a sharp edge


def test_frames_are_deterministic(source, portrait, moved):
    target = moved(portrait, (5, 12, 3), jawOpen=0.4)
    assert torch.equal(warp_frame(source, target).image, warp_frame(source, target).image)


def test_corners_and_shoulders_stay_when_the_head_turns(source, portrait, moved):
    flow = warp_frame(source, moved(portrait, (0, 15, 0))).flow
    assert flow[:, -20:].abs().max() < 0.5  # the bottom rows: space suit
    nose = portrait.landmarks[0, 4, :2].long()
    assert float(flow[0, nose[1], nose[0]]) < -4  # the nose moves right, its pixel comes from the left


def test_the_turn_is_by_how_much_another_side_of_the_head_is_seen():
    """A metre before the camera: turned by 30 degrees, leaning to a shoulder, a metre aside (45 degrees)."""
    centre = torch.tensor([0.0, 0.0, -1.0])

    def motion(axis: tuple[float, float, float], shift: tuple[float, float, float]) -> SkullMotion:
        """About the centre of the skull."""
        rotation = axis_angle_to_matrix(torch.deg2rad(torch.tensor(axis)))
        return SkullMotion(rotation, centre - rotation @ centre + torch.tensor(shift), torch.zeros(2))

    still = (0.0, 0.0, 0.0)
    assert motion((0, 30, 0), still).turn(centre, perspective=True) == pytest.approx(30, abs=1e-3)
    assert motion((-20, 0, 0), still).turn(centre, perspective=False) == pytest.approx(20, abs=1e-3)
    assert motion((0, 0, 30), still).turn(centre, perspective=True) == pytest.approx(0, abs=1e-2)
    assert motion(still, (1.0, 0, 0)).turn(centre, perspective=True) == pytest.approx(45, abs=1e-3)
    assert motion(still, (1.0, 0, 0)).turn(centre, perspective=False) == 0


def test_a_frame_tells_its_turn_as_shown(source, portrait, moved):
    """At rest none; what the limit holds back is not shown."""
    assert warp_frame(source, portrait).turn == pytest.approx(0, abs=1e-3)
    assert warp_frame(source, moved(portrait, (0, 12, 0))).turn == pytest.approx(12, abs=1.5)
    far = warp_frame(source, moved(portrait, (0, 60, 0)))
    assert far.held > 20 and far.turn < 45


def test_a_turn_to_the_left_mirrors_a_turn_to_the_right(head, track_of, photo, portrait, moved):
    """The flow of a mirrored photo is the mirrored flow."""
    flipped = photo.flip(-1)
    track = track_of(flipped)
    right = warp_frame(prepare_warp(head, photo, portrait), moved(portrait, (0, 12, 0)))
    left = warp_frame(prepare_warp(head, flipped, track), moved(track, (0, -12, 0)))
    mirrored = left.flow.flip(-1) * torch.tensor([-1.0, 1.0])[:, None, None]
    face = (right.source_map == 0) & (left.source_map.flip(-1) == 0)
    assert (right.flow - mirrored)[
        :, face
    ].abs().median() < 0.6  # pixels; the tracker is not symmetric itself


@pytest.mark.parametrize(
    ("turn", "expressions"),
    [
        ((0, 12, 0), {}),
        ((10, 0, 0), {}),
        ((0, 0, 15), {}),
        ((0, 0, 0), {"mouthSmileLeft": 1, "mouthSmileRight": 1}),
    ],
)
def test_the_landmark_network_finds_the_face_where_it_was_asked_to_be(
    head, landmarker, source, portrait, moved, turn, expressions
):
    target = moved(portrait, turn, **expressions)
    marks = move_head(source, target).marks[:, :2]
    seen = landmarker.observe(warp_frame(source, target).image)[0].points[:, :2]
    used = head.landmarks.matched & (head.landmarks.spread < 0.006)
    used[468:] = False
    error = (seen - marks)[used].norm(dim=-1).mean() / (marks[33] - marks[263]).norm()
    assert error < 0.022


def test_a_target_whose_camera_looks_elsewhere_stands_there(head, source, portrait):
    """A principal point 12 pixels to the right carries the whole head along, and the flow around it."""
    intrinsics = portrait.camera.intrinsics + torch.tensor([0.0, 12.0, 0.0])
    target = dataclasses.replace(portrait, camera=dataclasses.replace(portrait.camera, intrinsics=intrinsics))
    moved, shift = move_head(source, target), 12.0 / source.scale
    torch.testing.assert_close(
        moved.screen[:, 0] - source.screen[:, 0], torch.full((head.num_vertices,), shift)
    )
    pixels = torch.rand(2, 4, 4) * 100
    flow = plane_flow(source, moved.skull, pixels, 1.0, torch.tensor([0.0, 0.0, -1.0]))
    torch.testing.assert_close(flow[0], torch.full((4, 4), -shift), rtol=0, atol=1e-3)


def test_closing_the_eyes_and_opening_the_mouth_is_seen(landmarker, source, portrait, moved):
    blink = moved(portrait, eyeBlinkLeft=1, eyeBlinkRight=1, eyeSquintLeft=0, eyeSquintRight=0)
    shape = landmarker.observe(warp_frame(source, blink).image)[0].points
    before = portrait.landmarks[0]
    assert (shape[145, 1] - shape[159, 1]) < 0.6 * (before[145, 1] - before[159, 1])
    mouth = landmarker.observe(warp_frame(source, moved(portrait, jawOpen=0.7)).image)[0].points
    assert (mouth[14, 1] - mouth[13, 1]) > 2 * (before[14, 1] - before[13, 1])


def test_an_open_mouth_is_marked_as_mouth_and_hole(source, portrait, moved):
    frame = warp_frame(source, moved(portrait, jawOpen=0.8))
    mouth = frame.source_map == SOURCES.index("mouth")
    assert mouth.sum() > 60
    assert frame.hole[mouth].min() > 0.5


def test_shares_sum_to_one_and_colours_name_the_sources(source, portrait, moved):
    frame = warp_frame(source, moved(portrait, (0, 20, 0), jawOpen=0.5))
    shares = source_shares(frame.source_map)
    assert list(shares) == list(SOURCES)
    assert sum(shares.values()) == pytest.approx(1)
    picture = source_map_picture(frame.source_map)
    assert picture.shape == frame.image.shape
    outside = ((picture[:, 0, 0] + 1) * 127.5).round().int().tolist()
    assert outside == list(COLOURS[SOURCES.index("outside")])


def test_values_stay_in_range(source, portrait, moved):
    frame = warp_frame(source, moved(portrait, (8, -20, 4), jawOpen=0.9, eyeBlinkLeft=1))
    assert frame.image.min() >= -1 and frame.image.max() <= 1
    assert frame.hole.min() >= 0 and frame.hole.max() <= 1


def test_turns_beyond_the_limit_are_held_and_reported(source, portrait, moved, caplog):
    inside = warp_frame(source, moved(portrait, (0, 15, 0)))
    beyond = warp_frame(source, moved(portrait, (0, 60, 0)))
    assert inside.held == 0
    assert 30 < beyond.held < 40
    tracks = [moved(portrait, (0, 15, 0)), moved(portrait, (0, 60, 0))]
    rows = {name: torch.cat([getattr(t, name) for t in tracks]) for name in ("expression", "pose", "eyelids")}
    rows |= {name: getattr(portrait, name).expand(2) for name in ("confidence", "found", "error")}
    clip = dataclasses.replace(portrait, **rows, camera=portrait.camera.expand(2), landmarks=None)
    with caplog.at_level(logging.WARNING, logger="magicportrait"):
        frames = list(warp_clip(source, clip))
    assert len(frames) == 2
    assert "1 of 2 frames" in caplog.text and "max_turn" in caplog.text


def test_the_limit_is_approached_without_a_jerk(source, portrait, moved):
    followed = [
        turn - warp_frame(source, moved(portrait, (0, turn, 0))).held for turn in (18, 22, 26, 40, 50)
    ]
    steps = [b - a for a, b in pairwise(followed)]

    assert min(steps) >= 0 and steps[-1] < 1
    assert followed[-1] <= 1.05 * source.options.max_turn


@pytest.mark.parametrize("size", [(97, 64), (48, 131), (33, 33)])
def test_small_and_odd_pictures_work(head, photo, portrait, moved, size):
    """The same face in pictures of any size: cut to `size` around it after shrinking."""
    scale = 0.25
    small = F.interpolate(photo[None], scale_factor=scale, mode="area")[0]
    marks = portrait.landmarks * scale
    top = int(max(0, marks[0, :, 1].mean() - size[0] / 2))
    left = int(marks[0, :, 0].mean() - size[1] / 2)
    padded = F.pad(small[None], (200, 200, 0, 200), mode="replicate")[0]
    cut = padded[:, top : top + size[0], left + 200 : left + 200 + size[1]].contiguous()
    marks = marks - marks.new_tensor([left, top, 0])
    camera = portrait.camera.resized(tuple(small.shape[-2:])).cropped(left, top, size)
    track = dataclasses.replace(portrait, camera=camera, landmarks=marks)
    source = prepare_warp(head, cut, track)
    frame = warp_frame(source, moved(track, (5, 15, 5), jawOpen=0.5, eyeBlinkLeft=1))
    assert frame.image.shape == cut.shape and frame.image.isfinite().all()
    assert torch.equal(warp_frame(source, track).image, cut)


def test_a_large_photo_moves_as_a_small_one_does(head, source, photo, portrait, moved):
    """Flow is computed at a bounded size and magnified: four times the pixels, the same motion."""
    large = F.interpolate(photo[None], scale_factor=4, mode="bicubic")[0].clamp(-1, 1)
    track = dataclasses.replace(
        portrait, camera=portrait.camera.resized(tuple(large.shape[-2:])), landmarks=portrait.landmarks * 4
    )
    prepared = prepare_warp(head, large, track, WarpOptions(max_work_width=200))
    assert prepared.scale == 3 or prepared.scale == 2
    target = ((0, 14, 4), {"jawOpen": 0.3})
    small = warp_frame(source, moved(portrait, target[0], **target[1]))
    big = warp_frame(prepared, moved(track, target[0], **target[1]))
    shrunk = F.avg_pool2d(big.image[None], 4)[0]
    assert (shrunk - small.image).abs().mean() < 0.03
    assert torch.equal(warp_frame(prepared, track).image, large)


def test_a_grey_photo_gives_grey_frames(head, photo, portrait, moved):
    grey = photo.mean(0, keepdim=True).expand(3, -1, -1).contiguous()
    frame = warp_frame(prepare_warp(head, grey, portrait), moved(portrait, (0, 15, 0)))
    assert (frame.image.amax(0) - frame.image.amin(0)).max() < 1e-4


def test_a_track_of_another_picture_or_head_is_refused(head, photo, portrait, moved):
    with pytest.raises(ValueError, match="256x352"):
        prepare_warp(head, photo[:, :-10], portrait)
    with pytest.raises(ValueError, match="other_head"):
        prepare_warp(head, photo, dataclasses.replace(portrait, head="other_head"))
    with pytest.raises(ValueError, match="no face"):
        prepare_warp(head, photo, dataclasses.replace(portrait, found=torch.tensor([False])))


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="max_turn"):
        WarpOptions(max_turn=0)
    with pytest.raises(ValueError, match="hair"):
        WarpOptions(hair=-1)


def test_repairs_do_not_pop_up_in_a_steady_turn(source, portrait, moved):
    """Worst second difference over time of any 16-pixel block: no frame stands out from the others."""
    frames = torch.stack(
        [warp_frame(source, moved(portrait, (0, 1.5 * i, 0), jawOpen=0.03 * i)).image for i in range(13)]
    )
    change = (frames[:-2] - 2 * frames[1:-1] + frames[2:]).abs().mean(1, keepdim=True)
    worst = F.avg_pool2d(change, 16).flatten(1).amax(1)
    assert worst.max() < 2 * worst.median()
