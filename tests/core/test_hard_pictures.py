"""The landmarker sees in the made pictures what they are made to show."""

from __future__ import annotations

import pytest
import torch
from hard_pictures import Actor, equal_frames, off_the_middle, portrait_of, sliding
from torch import Tensor

EYES = (33, 263)  # outer corners
LIPS = (13, 14)
LIDS = ((159, 145), (386, 374))  # right, left


@pytest.fixture(scope="module")
def actor(astronaut, landmarker) -> Actor:
    return Actor.of(portrait_of(astronaut), landmarker)


@pytest.fixture(scope="module")
def seen(landmarker):
    """seen(picture): lip gap and both lids' openings in outer-eye distances, and the landmarks."""

    def look(picture: Tensor) -> tuple[float, list[float], Tensor]:
        (face,) = landmarker.observe(picture)

        def apart(a: int, b: int) -> float:
            return float((face.points[a, :2] - face.points[b, :2]).norm())

        unit = apart(*EYES)
        return apart(*LIPS) / unit, [apart(*lids) / unit for lids in LIDS], face.points

    return look


def test_the_photo_has_open_eyes_and_a_smile(actor, seen):
    gap, lids, _ = seen(actor.picture)
    assert 0.08 < gap < 0.15 and all(0.08 < lid < 0.13 for lid in lids)


def test_the_plain_face_has_a_mouth_that_is_nearly_shut(actor, seen):
    assert seen(actor.plain())[0] < 0.06


def test_an_open_mouth_is_open(actor, seen):
    gap, lids, _ = seen(actor.open_mouth())
    assert gap > 0.25 and min(lids) > 0.08


def test_shut_eyes_are_shut_also_behind_glasses(actor, seen):
    shut = actor.shut_eyes()
    assert max(seen(shut)[1]) < 0.035
    glasses = actor.glasses(shut[None])[0]
    assert max(seen(glasses)[1]) < 0.035 and bool((glasses != shut).any())
    assert min(seen(actor.glasses()[0])[1]) > 0.08


def test_large_eyes_are_larger_and_nothing_else_changes(actor, seen):
    large = actor.large_eyes()
    assert min(seen(large)[1]) > 1.3 * max(seen(actor.picture)[1])
    below = slice(int(actor.points[LIPS[0], 1]) - 5, None)
    torch.testing.assert_close(large[:, below], actor.picture[:, below], rtol=0, atol=1e-4)


def test_a_clip_acts_frame_by_frame(actor, seen):
    clip = actor.act(jawOpen=[0.0, 1.0], eyeBlinkLeft=[1.0, 0.0])
    assert clip.shape == (2, *actor.picture.shape)
    (shut, first, _), (opened, second, _) = seen(clip[0]), seen(clip[1])
    assert opened > shut + 0.12
    assert first[1] < 0.05 < 0.07 < first[0]  # the left eye winks
    assert min(second) > 0.08
    with pytest.raises(ValueError, match="2 values for 3 frames"):
        actor.act(jawOpen=[0.0, 1.0, 0.5], browInnerUp=[0.0], yaw=[0.0, 1.0])


def test_a_head_that_turns_to_the_right_moves_its_nose_there(actor, seen):
    right, left = (seen(picture)[2] for picture in actor.act(yaw=[10.0, -10.0]))

    def nose(points: Tensor) -> float:  # -1 at the right eye ... 1 at the left one
        a, b = points[EYES[0], 0], points[EYES[1], 0]
        return float(2 * (points[1, 0] - a) / (b - a) - 1)

    assert nose(right) > nose(left) + 0.2


def test_a_face_off_the_middle_is_the_same_face_elsewhere(actor, seen):
    side = actor.picture.shape[-1]
    wide = off_the_middle(actor.picture, 1.0)
    assert wide.shape == (3, side, 3 * side) and torch.equal(wide[..., 2 * side :], actor.picture)
    moved = seen(wide)[2] - seen(actor.picture)[2]
    assert moved[:, 0].mean() == pytest.approx(2 * side, abs=1) and moved[:, 1].abs().mean() < 1


def test_a_sliding_picture_goes_from_edge_to_edge(actor):
    clip = sliding(actor.picture, 3)
    side = actor.picture.shape[-1]
    for frame, left in zip(clip, (0, side, 2 * side), strict=True):
        assert torch.equal(frame[..., left : left + side], actor.picture)


def test_a_disc_covers_mouth_and_chin_of_the_chosen_frames_alone(actor):
    clip = equal_frames(actor.picture)
    covered = actor.disc_over_mouth(clip, range(2, 5))
    assert covered.shape[0] == 8 and all(torch.equal(frame, clip[0]) for frame in clip)
    changed = [bool((frame != actor.picture).any()) for frame in covered]
    assert changed == [False] * 2 + [True] * 3 + [False] * 3
    for point in (13, 14, 17, 152):  # lips and chin
        x, y = actor.points[point, :2].int().tolist()
        assert (covered[3][:, y, x] * 127.5 + 127.5).round().tolist() == [150, 110, 90]
