"""Measures of motion, on heads whose motion is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from drawn_clips import drawn_track

from magicportrait_core.head.assets import load_head
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.tracking.landmark_error import expected_landmarks
from training.evaluation.motion import (
    Request,
    flow_error,
    head_masks,
    landmark_error,
    motion_metrics,
    shape_distance,
)

SIZE = 64


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def track(head):
    """As a tracker gives it: landmarks are where the head has them, unknown without a place on it."""
    drawn = drawn_track(head, 4, SIZE, torch.Generator().manual_seed(1))
    points = expected_landmarks(head, drawn)
    return replace(drawn, landmarks=torch.cat((points, torch.zeros_like(points[..., :1])), dim=-1))


@pytest.fixture(scope="module")
def request_of(track):
    return Request.of_truth(track, track)


def test_the_truth_itself_has_no_error(head, track, request_of):
    assert motion_metrics(track, request_of, head) == pytest.approx(
        {"landmarks": 0, "apd": 0, "aed": 0, "identity": 0, "lost": 0}, abs=1e-3
    )


def test_landmarks_a_tenth_of_the_eyes_distance_off_are_ten_percent():
    wanted = torch.zeros(2, 478, 2)
    wanted[:, 263, 0] = 50.0  # outer corner of the other eye, 50 pixels from landmark 33
    seen = wanted + torch.tensor([3.0, 4.0])  # 5 pixels
    assert landmark_error(seen, wanted) == pytest.approx(10)
    seen[1] = math.nan  # a frame in which no face is seen does not count
    assert landmark_error(seen, wanted) == pytest.approx(10)


def test_a_head_turned_by_ten_degrees_more_is_ten_degrees_off(head, track, request_of):
    pose = track.pose.clone()
    pose[:, 1, 1] += math.radians(10)  # the neck turns about the same axis as in the track
    metrics = motion_metrics(replace(track, pose=pose), request_of, head)
    assert metrics["apd"] == pytest.approx(10, abs=0.01) and metrics["aed"] == 0


def test_one_coefficient_half_off_is_its_share_of_the_expression(head, track, request_of):
    expression = track.expression.clone()
    expression[:, 3] += 0.5
    metrics = motion_metrics(replace(track, expression=expression), request_of, head)
    assert metrics["aed"] == pytest.approx(0.5 / head.num_expression) and metrics["apd"] == pytest.approx(
        0, abs=1e-2
    )


def test_frames_without_a_face_are_counted_and_left_out(head, track, request_of):
    pose = track.pose.clone()
    pose[3, 1, 1] += 1.0
    seen = replace(track, pose=pose, found=torch.tensor([True, True, True, False]))
    metrics = motion_metrics(seen, request_of, head)
    assert metrics["lost"] == 25 and metrics["apd"] == pytest.approx(0, abs=1e-2)
    nothing = motion_metrics(None, request_of, head)
    assert nothing["lost"] == 100 and math.isnan(nothing["landmarks"])


def test_identity_is_shape_but_neither_size_nor_place(head):
    shape = torch.zeros(1, head.num_shape)
    other = shape.clone()
    other[0, 0] = 1.5
    assert shape_distance(head, shape, shape) == 0
    assert 0.2 < shape_distance(head, other, shape) < 10
    assert shape_distance(head, 2 * other, shape) > shape_distance(head, other, shape)


def test_of_an_aligned_track_the_wanted_landmarks_are_the_heads_own(head, track):
    request = Request.of_aligned(track, head)
    assert landmark_error(track.landmarks[..., :2], request.landmarks) == pytest.approx(0, abs=1e-4)


def test_a_picture_that_stands_still_on_a_head_that_stands_still_has_no_flow_error(head, track):
    still = replace(track[torch.tensor([0, 0, 0])], landmarks=None)
    picture = torch.randint(0, 256, (1, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(2))
    frames = picture.expand(3, -1, -1, -1).to(torch.uint8)
    assert flow_error(frames, still, head) == pytest.approx(
        0, abs=0.05
    )  # of sampling at half pixels, rounded


def test_a_flash_is_a_flow_error_of_its_height(head, track):
    frames = torch.full((4, 3, SIZE, SIZE), 100, dtype=torch.uint8)
    assert flow_error(frames, track, head) == pytest.approx(0, abs=1e-3)
    frames[1::2] += 12
    assert flow_error(frames, track, head) == pytest.approx(12, abs=1e-3)


def test_skin_that_goes_with_the_head_has_less_flow_error_than_skin_that_stays(head, track):
    """The head moves 2 pixels to the right each frame; so does a ramp of 4 levels a pixel, or it does not."""
    view = track.camera.view[:1].repeat(4, 1, 1)
    metres = 2.0 * float(-view[0, 2, 3]) / float(track.camera.intrinsics[0, 0])  # about 2 pixels in depth
    view[:, 0, 3] += metres * torch.arange(4)
    moving = replace(
        track[torch.zeros(4, dtype=torch.long)],
        camera=Camera(view, track.camera.intrinsics, track.camera.size),
        landmarks=None,
    )
    ramp = 4.0 * torch.arange(SIZE).expand(1, 3, SIZE, SIZE).float()
    goes = torch.cat([(ramp - 8.0 * i + 24).clamp(0, 255) for i in range(4)]).to(torch.uint8)
    stays = ramp.expand(4, -1, -1, -1).to(torch.uint8)
    assert flow_error(stays, moving, head) == pytest.approx(8, rel=0.15)  # 2 pixels of 4 levels
    assert flow_error(goes, moving, head) < 1.2


def test_masks_are_where_the_head_is(head, track):
    masks = head_masks(track, head, (SIZE, SIZE))
    centre = masks[:, 0, SIZE // 2, SIZE // 2]
    assert bool(centre.all()) and not bool(masks[:, 0, 0, 0].any())
    large = head_masks(track, head, (2 * SIZE, 2 * SIZE))
    assert large.float().mean() == pytest.approx(float(masks.float().mean()), abs=0.01)
