"""Covers of a face, drawn over scikit-image's astronaut: found, bridged in clips, named in portraits."""

from dataclasses import replace

import pytest
import torch
from synthetic_head import ARKIT, synthetic_head, synthetic_track

from magicportrait_core.alignment import head_rotation
from magicportrait_core.head.assets import load_head
from magicportrait_core.media.image import resize
from magicportrait_core.tracking.bridging import bridge_covers
from magicportrait_core.tracking.covers import ZONES
from magicportrait_core.tracking.report import track_warnings
from magicportrait_core.tracking.rotations import euler_degrees
from magicportrait_core.tracking.tracker import track_face_with_report, track_portrait

FRAMES, COVERED = 22, slice(7, 15)
LIP, CHIN, OUTER_EYE, INNER_EYE = 13, 152, 33, 133  # landmarks
SKIN_LIKE = [0.55, 0.2, 0.0]


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def portrait(astronaut):
    return resize(astronaut[:, :250, 90:340], (256, 256))


@pytest.fixture(scope="module")
def clip(astronaut):
    """The face slides to the left by three pixels a frame."""
    return [
        resize(astronaut[:, 10:230, 100 + 3 * i : 320 + 3 * i].contiguous(), (220, 220))
        for i in range(FRAMES)
    ]


@pytest.fixture(scope="module")
def free(clip, landmarker, head):
    return track_face_with_report(iter(clip), landmarker, head, 25.0)


@pytest.fixture(scope="module", params=[[0.0, 0.0, 0.0], SKIN_LIKE], ids=["grey", "skin"])
def covered(request, clip, free, landmarker, head):
    frames = list(clip)
    for i in range(COVERED.start, COVERED.stop):
        frames[i] = disc_over_mouth(frames[i], free.track.landmarks[i], request.param)
    return track_face_with_report(iter(frames), landmarker, head, 25.0)


def disc(frame, middle, radius, colour):
    rows, columns = torch.meshgrid(*(torch.arange(n) + 0.5 for n in frame.shape[-2:]), indexing="ij")
    near = (columns - middle[0]).square() + (rows - middle[1]).square() < radius**2
    return torch.where(near, torch.tensor(colour)[:, None, None], frame)


def disc_over_mouth(frame, points, colour):
    lip, chin = points[LIP, :2], points[CHIN, :2]
    return disc(frame, (lip + chin) / 2, 0.9 * float((chin - lip).norm()), colour)


def disc_over_eye(frame, points, colour):
    outer, inner = points[OUTER_EYE, :2], points[INNER_EYE, :2]
    return disc(frame, (outer + inner) / 2, 0.9 * float((outer - inner).norm()), colour)


def test_nothing_covers_a_free_face(free):
    assert not free.track.covered.any()
    assert "covered" not in free.report


def test_a_disc_over_mouth_and_chin_is_named_with_its_frames(covered):
    """Two frames more at either end, in which a real cover comes and goes."""
    assert covered.track.found.all()
    expected = torch.zeros(FRAMES, len(ZONES), dtype=torch.bool)
    expected[COVERED.start - 2 : COVERED.stop + 2, 0] = True
    assert torch.equal(covered.track.covered, expected)
    assert (
        "mouth and chin covered in 12 of 22 frames (5-16): bridged from the frames around" in covered.report
    )


def test_jaw_and_head_do_not_jump_where_a_disc_comes_and_goes(covered, free, head):
    jaw = head.expression_index("jawOpen")
    assert (covered.track.expression - free.track.expression)[:, jaw].abs().max() < 0.03
    turn, free_turn = (euler_degrees(head_rotation(result.track)) for result in (covered, free))
    assert (turn - free_turn).abs().max() < 2
    steps = (turn[1:] - turn[:-1] - (free_turn[1:] - free_turn[:-1])).abs()
    assert steps.max() < 1.0


def test_a_cover_that_stays_is_said_to_stay(clip, free, landmarker, head):
    points = free.track.landmarks
    frames = [disc_over_mouth(clip[i], points[i], [0.0, 0.0, 0.0]) for i in range(5)]
    result = track_face_with_report(iter(frames), landmarker, head, 25.0)
    assert result.track.covered[:, 0].all() and not result.track.covered[:, 1:].any()
    assert "mouth and chin covered throughout" in result.report


def test_a_covered_mouth_goes_straight_from_before_to_after_and_the_eyes_move_on():
    jaw, blink = ARKIT.index("jawOpen"), ARKIT.index("eyeBlinkLeft")
    track = synthetic_track(synthetic_head(), frames=6)
    expression = torch.zeros_like(track.expression)
    expression[:, jaw] = torch.tensor([0.2, 0.9, 0.9, 0.9, 0.6, 0.1])
    expression[:, blink] = torch.tensor([0.0, 0.8, 0.0, 0.8, 0.0, 0.8])
    covered = torch.zeros(6, len(ZONES), dtype=torch.bool)
    covered[1:4, 0] = True
    bridged = bridge_covers(replace(track, expression=expression, covered=covered))
    torch.testing.assert_close(bridged.expression[:, jaw], torch.tensor([0.2, 0.3, 0.4, 0.5, 0.6, 0.1]))
    assert torch.equal(bridged.expression[:, blink], expression[:, blink])


def test_a_covered_eye_keeps_the_other_one_free():
    left, right = ARKIT.index("eyeBlinkLeft"), ARKIT.index("eyeBlinkRight")
    track = synthetic_track(synthetic_head(), frames=4)
    expression = torch.zeros_like(track.expression)
    expression[2:, [left, right]] = 1.0
    covered = torch.zeros(4, len(ZONES), dtype=torch.bool)
    covered[2:, ZONES.index("right_eye")] = True
    bridged = bridge_covers(replace(track, expression=expression, covered=covered))
    assert bridged.expression[:, right].tolist() == [0, 0, 0, 0]  # held to the clip's end
    assert bridged.expression[:, left].tolist() == [0, 0, 1, 1]
    assert "right eye covered in 2 of 4 frames (2-3): bridged from the frames around" in track_warnings(
        bridged
    )


@pytest.mark.parametrize("exposure", [1.0, 0.2])
def test_a_portrait_with_a_free_face_has_no_covers(portrait, landmarker, head, exposure):
    dark = (portrait + 1) * exposure - 1
    assert not track_portrait(dark, landmarker, head).covered.any()


@pytest.mark.parametrize(
    "colour", [[0.0, 0.0, 0.0], SKIN_LIKE, [0.9, 0.9, 0.9]], ids=["grey", "skin", "white"]
)
@pytest.mark.parametrize(("cover", "zone"), [(disc_over_mouth, "mouth"), (disc_over_eye, "right_eye")])
def test_a_disc_over_a_portrait_is_found(portrait, landmarker, head, colour, cover, zone):
    points = track_portrait(portrait, landmarker, head).landmarks[0]
    covered = track_portrait(cover(portrait, points, colour), landmarker, head).covered[0]
    assert [name for name, flag in zip(ZONES, covered.tolist(), strict=True) if flag] == [zone]
