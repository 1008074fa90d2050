from dataclasses import replace

import pytest
import torch
from synthetic_head import synthetic_head, synthetic_track

from magicportrait_core.tracking.report import suspected_cuts, track_report, track_warnings


@pytest.fixture
def track():
    """30 calm frames: the same picture with a face of 100 pixels."""
    track = synthetic_track(synthetic_head(), frames=1)[torch.zeros(30, dtype=torch.int64)]
    points = 100 * torch.rand(1, 478, 3, generator=torch.Generator().manual_seed(0)) + 200
    points[:, 33], points[:, 263] = torch.tensor([220.0, 250, 0]), torch.tensor([280.0, 250, 0])
    return replace(track, landmarks=points.expand(30, -1, -1).clone(), error=torch.full((30,), 1.5))


def test_a_calm_clip(track):
    report = track_report(track, torch.ones(30, dtype=torch.int64))
    assert report.startswith("30 frames of 500x500 at 25 fps (1.2 s), head model synthetic\n")
    assert "face 0 found in 30 of 30 frames; faces seen: 1" in report
    assert "fit error: mean 1.50 %" in report and report.endswith("no warnings")


def test_missing_frames_are_named_as_ranges(track):
    found = torch.ones(30, dtype=torch.bool)
    found[3], found[12:19] = False, False
    report = track_report(replace(track, found=found))
    assert "found in 22 of 30 frames (0-2, 4-11, 19-29), missing in 3, 12-18" in report
    assert "! no face in 8 of 30 frames (3, 12-18)" in report


def test_the_worst_frames_are_named(track):
    error = track.error.clone()
    error[7], error[20] = 4.0, 2.0
    report = track_report(replace(track, error=error))
    assert "worst: frame 7 (4.00 %), frame 20 (2.00 %)" in report
    assert "does not fit the face well in 1 of 30 frames (7)" in report


def test_a_cut_is_suspected_where_the_face_jumps(track):
    points = track.landmarks.clone()
    points[10:] += torch.tensor([90.0, 0.0, 0.0])
    assert suspected_cuts(track) == []
    assert suspected_cuts(replace(track, landmarks=points)) == [10]
    assert "the picture jumps at frame 10" in track_report(replace(track, landmarks=points))


def test_fast_motion_is_not_a_cut(track):
    points = track.landmarks + 12 * torch.arange(30.0)[:, None, None] * torch.tensor([1.0, 0, 0])
    assert suspected_cuts(replace(track, landmarks=points)) == []


def test_profile_small_uncertain_and_several_faces_are_pointed_out(track):
    pose = track.pose.clone()
    pose[:, 0], pose[4:6, 0] = 0.0, torch.tensor([0.0, 1.2, 0.0])
    said = track_warnings(replace(track, pose=pose))
    assert any("in profile in 2 of 30 frames (4-5)" in text for text in said)
    said = track_warnings(replace(track, landmarks=track.landmarks / 5))
    assert any("the face is very small in 30 of 30 frames (0-29)" in text for text in said)
    said = track_warnings(replace(track, confidence=torch.full((30,), 0.5)))
    assert any("hardly recognised" in text for text in said)
    said = track_warnings(track, torch.full((30,), 2))
    assert any("several faces in 30 of 30 frames; face 0 was followed" in text for text in said)


def test_a_picture_has_no_frames_to_name(track):
    report = track_report(replace(track[0], fps=0.0), notes=("look at the left eye",))
    assert report.startswith("picture of 500x500") and "fit error: 1.50 %" in report
    assert report.endswith("! look at the left eye")
