"""One person through a clip: choice, crossings, gaps, cuts and what is said when there is no such face."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from magicportrait_core.media.image import resize
from magicportrait_core.tracking.following import FaceChoice, follow_face, overview

TWO_FACES = "comfyui_workflow_templates_media_image/templates/utility_hitpaw_video_enhance-2.webp"
WOMAN = "comfyui_workflow_templates_media_video/templates/video_wan2_2_14B_t2v-1.webp"
MAN = "comfyui_workflow_templates_media_video/templates/video_ltx2_3_id_lora-1.webp"
NOSE_TIP = 1
SIZE = (240, 480)


@pytest.fixture(scope="module")
def woman(real_frame) -> Tensor:
    return resize(real_frame(WOMAN)[:, 50:300, 60:310], (160, 160))


@pytest.fixture(scope="module")
def man(real_frame) -> Tensor:
    return resize(real_frame(MAN)[:, 75:235, 95:255], (160, 160))


def scene(*placed: tuple[Tensor, float]) -> Tensor:
    """Heads at horizontal places, later ones in front, on a plain background."""
    canvas = torch.full((3, *SIZE), -0.3)
    for picture, left in placed:
        left = round(left)
        start, stop = max(left, 0), min(left + picture.shape[2], SIZE[1])
        if start < stop:
            canvas[:, 40 : 40 + picture.shape[1], start:stop] = picture[:, :, start - left : stop - left]
    return canvas


def nose(observations, frame: int) -> float:
    return float(observations.points[frame, NOSE_TIP, 0])


def test_the_same_clip_followed_twice_gives_two_people(landmarker, real_frame):
    frames = [real_frame(TWO_FACES, k) for k in range(0, 12, 2)]
    left = follow_face(frames, landmarker, FaceChoice(0, "left_to_right"), fps=15)
    right = follow_face(frames, landmarker, FaceChoice(1, "left_to_right"), fps=15)
    assert left.found.all() and right.found.all() and left.num_faces.tolist() == [2] * 6
    assert left.points.shape == (6, 478, 3) and left.size == (350, 350) and left.fps == 15
    for frame in range(6):
        assert nose(left, frame) < nose(right, frame)
    nearest = follow_face(frames, landmarker, FaceChoice(order="near_point", point=(190, 100)))
    assert torch.equal(nearest.points, right.points)
    boxed = follow_face(frames, landmarker, FaceChoice(box=(150, 60, 230, 140)))
    assert torch.equal(boxed.points, right.points)


def test_size_counts_from_the_largest(landmarker, woman, man):
    small = resize(man, (100, 100))
    frames = [scene((small, 20), (woman, 280))] * 3
    assert nose(follow_face(frames, landmarker), 0) > 280
    assert nose(follow_face(frames, landmarker, FaceChoice(1)), 0) < 150


def test_a_small_face_beside_a_large_one_can_be_chosen(landmarker, astronaut, real_frame):
    large, small = resize(astronaut, (1000, 1000)), resize(real_frame(WOMAN), (130, 130))
    picture = torch.full((3, 1000, 1600), -0.3)
    picture[:, :, :1000], picture[:, 500:630, 1300:1430] = large, small
    assert len(landmarker.observe(picture, max_faces=4)) == 1
    chosen = follow_face([picture], landmarker, FaceChoice(1))
    assert 1300 < nose(chosen, 0) < 1430


def test_people_who_cross_are_not_mixed_up(landmarker, woman, man):
    places = [20 + 20 * step for step in range(15)]
    frames = [scene((man, 300 - left), (woman, left)) for left in places]  # she passes in front of him
    her = follow_face(frames, landmarker, FaceChoice(0, "left_to_right"))
    him = follow_face(frames, landmarker, FaceChoice(1, "left_to_right"))
    assert her.found.all()
    for frame, left in enumerate(places):
        assert left < nose(her, frame) < left + 160
        if him.found[frame]:
            assert 300 - left < nose(him, frame) < 460 - left
    assert him.found[:4].all() and him.found[-4:].all() and not him.found.all()


def test_a_face_that_leaves_and_returns_is_the_same_person(landmarker, woman, man):
    away = [scene((man, 300))] * 16
    frames = [scene((woman, 40), (man, 300))] * 3 + away + [scene((woman, 100), (man, 300))] * 3
    her = follow_face(frames, landmarker, FaceChoice(order="near_point", point=(120, 120)))
    assert her.found.tolist() == [True] * 3 + [False] * 16 + [True] * 3
    assert her.points[5].isnan().all() and her.num_faces[5] == 1
    assert 100 < nose(her, 20) < 260


def test_another_face_at_the_same_place_is_another_person(landmarker, woman, man):
    frames = [scene((woman, 160))] * 4 + [scene((man, 160))] * 3 + [scene((woman, 170))] * 4
    her = follow_face(frames, landmarker)
    assert her.found.tolist() == [True] * 4 + [False] * 3 + [True] * 4


def test_after_a_cut_the_person_is_found_again_elsewhere(landmarker, woman, man):
    closer = resize(woman, (190, 190))
    bright = [scene((closer, 270), (man, 20)) + 0.0] * 3
    frames = [scene((woman, 20), (man, 300))] * 3 + bright
    her = follow_face(frames, landmarker, FaceChoice(0, "left_to_right"))
    assert her.found.all() and her.num_faces.tolist() == [2] * 6
    assert nose(her, 0) < 200 and nose(her, 5) > 280


def test_a_hand_over_the_face_for_a_moment(landmarker, woman):
    covered = scene((woman, 160))
    covered[:, 40:200, 150:330] = 0.4
    frames = [scene((woman, 160))] * 3 + [covered] * 2 + [scene((woman, 165))] * 3
    her = follow_face(frames, landmarker)
    assert her.found.tolist() == [True] * 3 + [False] * 2 + [True] * 3
    assert her.notes == ()


def test_frames_are_read_one_at_a_time_and_counted(landmarker, woman):
    alive, most, counted = 0, 0, []

    def frames() -> Iterator[Tensor]:
        nonlocal alive, most
        for left in range(150, 170, 4):
            alive += 1
            most = max(most, alive)
            yield scene((woman, left))
            alive -= 1

    follow_face(frames(), landmarker, on_frame=counted.append)
    assert most == 1 and counted == [1, 2, 3, 4, 5]


def test_the_callback_may_cancel(landmarker, woman):
    class Cancelled(Exception):
        pass

    def cancel(done: int) -> None:
        if done == 2:
            raise Cancelled

    seen = []

    def frames() -> Iterator[Tensor]:
        for number in range(100):
            seen.append(number)
            yield scene((woman, 160))

    with pytest.raises(Cancelled):
        follow_face(frames(), landmarker, on_frame=cancel)
    assert seen == [0, 1]


def test_one_picture_is_a_clip_of_one_frame(landmarker, astronaut):
    observed = follow_face([astronaut], landmarker)
    assert observed.num_frames == 1 and observed.fps == 0 and observed.found.all()


@pytest.mark.parametrize(
    ("frames", "choice", "sentence"),
    [
        (0, FaceChoice(), "there are no frames to look for a face in"),
        (
            1,
            FaceChoice(2),
            r"asked for face 2 by size \(counted from 0\), the picture shows at most 1 face: choose 0",
        ),
        (2, FaceChoice(1, "left_to_right"), "from left to right .*the clip shows at most 1 face: choose 0"),
        (
            1,
            FaceChoice(order="near_point", point=(900, 5)),
            r"point \(900, 5\) lies outside the picture, 480x240",
        ),
        (
            1,
            FaceChoice(box=(0, 0, 20, 20)),
            r"there is no face in the box \(0, 0, 20, 20\).*first appear at \(",
        ),
    ],
)
def test_a_face_that_is_not_there_is_named(landmarker, woman, frames, choice, sentence):
    with pytest.raises(ValueError, match=sentence):
        follow_face([scene((woman, 160))] * frames, landmarker, choice)


def test_no_face_is_said_with_the_size_looked_at(landmarker):
    empty = torch.zeros(3, 64, 96)
    with pytest.raises(ValueError, match=r"no face was found in the picture \(96x64 pixels\); use one"):
        follow_face([empty], landmarker)
    with pytest.raises(ValueError, match="no face was found in any of the 3 frames"):
        follow_face([empty] * 3, landmarker)


def test_frames_of_two_sizes_are_refused(landmarker):
    with pytest.raises(ValueError, match="frame 1 is 96x64 pixels, the frames before are 64x64"):
        follow_face([torch.zeros(3, 64, 64), torch.zeros(3, 64, 96)], landmarker)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"order": "beauty"}, "order='beauty'; expected one of size, left_to_right, near_point"),
        ({"index": -1}, "faces are counted from 0"),
        ({"order": "near_point"}, "needs a point"),
        ({"box": (10, 10, 5, 20)}, "is empty"),
    ],
)
def test_choices_that_make_no_sense(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        FaceChoice(**arguments)


def test_the_overview_sees_a_cut_but_not_a_step_aside(woman, man):
    def change(a: Tensor, b: Tensor) -> float:
        return float((overview(a) - overview(b)).abs().mean())

    assert change(scene((woman, 100)), scene((woman, 110))) < 0.1
    assert change(scene((woman, 100)), 0.8 - scene((man, 300))) > 0.3
