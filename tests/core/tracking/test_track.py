import math
from dataclasses import replace

import pytest
import torch
from synthetic_head import synthetic_head, synthetic_track

from magicportrait_core.head.skinning import axis_angle_to_matrix
from magicportrait_core.tracking.rotations import angle_between, euler_degrees, slerp
from magicportrait_core.tracking.track_editing import concatenate, resample, select

HALF_TURN = torch.tensor([0.0, math.pi / 2, 0.0])


@pytest.fixture(scope="module")
def track():
    return synthetic_track(synthetic_head(), frames=6)


def test_slicing_keeps_the_frame_axis_and_the_person(track):
    part = track[2:4]
    assert part.num_frames == 2 and part.camera.num_frames == 2
    assert torch.equal(part.expression, track.expression[2:4]) and torch.equal(part.shape, track.shape)
    assert track[-1].num_frames == 1 and torch.equal(track[-1].pose, track.pose[5:])
    assert torch.equal(track[torch.tensor([3, 0])].landmarks, track.landmarks[[3, 0]])
    assert torch.equal(track[torch.arange(6) == 4].pose, track.pose[4:5])


def test_frames_that_are_not_there_are_refused(track):
    with pytest.raises(IndexError, match="frame 6 of a track of 6 frames"):
        track[6]
    with pytest.raises(IndexError, match="selects no frame"):
        track[6:]
    with pytest.raises(ValueError, match="frame 9 is not in the track, which has frames 0 to 5"):
        select(track, [0, 9])
    with pytest.raises(ValueError, match="no frame numbers"):
        select(track, [])


def test_a_track_says_what_does_not_fit(track):
    with pytest.raises(ValueError, match=r"6 frames needs pose of shape \(6, 5, 3\), got \(5, 5, 3\)"):
        replace(track, pose=track.pose[:5])
    with pytest.raises(ValueError, match="needs as many camera views, got 3"):
        replace(track, camera=track.camera[:3])
    with pytest.raises(ValueError, match="found must be boolean"):
        replace(track, found=track.confidence)
    with pytest.raises(ValueError, match="51 expression coefficients got 2 names"):
        replace(track, expression_names=("a", "b"))


def test_frames_can_be_repeated_and_reversed(track):
    again = select(track, [5, 5, 0, -1])
    assert torch.equal(again.expression, track.expression[[5, 5, 0, 5]])


def test_a_cut_and_joined_track_is_the_track(track):
    joined = concatenate([track[:2], track[2:3], track[3:]])
    assert torch.equal(joined.pose, track.pose) and torch.equal(joined.camera.view, track.camera.view)
    assert torch.equal(joined.landmarks, track.landmarks) and joined.fps == track.fps


def test_only_tracks_that_fit_are_joined(track):
    with pytest.raises(ValueError, match="track 1 has frame rate 25.0 and track 2 has 30.0; resample"):
        concatenate([track, replace(track, fps=30.0)])
    with pytest.raises(ValueError, match="has head model synthetic and track 2 has other"):
        concatenate([track, replace(track, head="other")])
    with pytest.raises(ValueError, match="different face shapes"):
        concatenate([track, replace(track, shape=track.shape + 1)])
    with pytest.raises(ValueError, match="no tracks"):
        concatenate([])


def test_halfway_between_no_turn_and_a_quarter_turn_is_an_eighth_turn():
    start, end = axis_angle_to_matrix(torch.stack((torch.zeros(3), HALF_TURN)))
    middle = slerp(start, end, torch.tensor(0.5))
    torch.testing.assert_close(middle, axis_angle_to_matrix(HALF_TURN / 2))
    assert math.degrees(angle_between(start, middle).item()) == pytest.approx(45.0, abs=1e-3)


def test_yaw_pitch_and_roll_of_single_turns():
    turns = torch.deg2rad(torch.tensor([[0.0, 30.0, 0.0], [20.0, 0.0, 0.0], [0.0, 0.0, 10.0]]))
    expected = torch.tensor([[30.0, 0.0, 0.0], [0.0, 20.0, 0.0], [0.0, 0.0, 10.0]])
    torch.testing.assert_close(euler_degrees(axis_angle_to_matrix(turns)), expected, rtol=0, atol=1e-4)


def test_twice_the_rate_puts_a_frame_halfway_between_each_two(track):
    track = replace(track, pose=track.pose.clone())
    track.pose[0, 0], track.pose[1, 0] = torch.zeros(3), HALF_TURN
    double = resample(track, 50.0)
    assert double.num_frames == 12 and double.fps == 50.0
    torch.testing.assert_close(double.pose[1, 0], HALF_TURN / 2)
    torch.testing.assert_close(double.expression[::2], track.expression, rtol=0, atol=0)
    torch.testing.assert_close(double.expression[1], (track.expression[0] + track.expression[1]) / 2)


def test_the_duration_is_kept_at_any_rate(track):
    long = select(track, list(range(6)) * 8)  # 48 frames at 25
    for fps in (12.0, 23.976, 24.0, 30.0, 60.0):
        assert abs(resample(long, fps).num_frames / fps - 48 / 25) <= 0.5 / fps
    assert resample(long, 25.0) is long


def test_a_frame_between_a_found_and_a_missing_one_is_not_found(track):
    found = torch.tensor([True, False, True, True, True, True])
    double = resample(replace(track, found=found), 50.0)
    assert double.found[:5].tolist() == [True, False, False, False, True]


def test_rates_that_mean_nothing_are_refused(track):
    with pytest.raises(ValueError, match="fps=0; expected a frame rate above 0"):
        resample(track, 0)
    with pytest.raises(ValueError, match="single picture"):
        resample(replace(track[0], fps=0.0), 25.0)
