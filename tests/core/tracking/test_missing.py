from dataclasses import replace

import pytest
import torch
from synthetic_head import synthetic_head, synthetic_track

from magicportrait_core.tracking.missing import fill_missing, format_ranges, frame_ranges

FOUND = [False, True, False, False, False, True, False]


@pytest.fixture(scope="module")
def track():
    """Frames 1 and 5 of 7 were found; the others hold NaN, as after fit_track."""
    found = torch.tensor(FOUND)
    track = synthetic_track(synthetic_head(), frames=7)
    lost = ~found
    view = track.camera.view.masked_fill(lost[:, None, None], torch.nan)
    return replace(
        track,
        found=found,
        expression=track.expression.masked_fill(lost[:, None], torch.nan),
        pose=track.pose.masked_fill(lost[:, None, None], torch.nan),
        error=track.error.masked_fill(lost, torch.nan),
        camera=replace(track.camera, view=view),
    )


def test_ranges_are_inclusive_and_read_as_people_write_them():
    assert frame_ranges(torch.tensor([False, True, True, False, True])) == [(1, 2), (4, 4)]
    assert format_ranges([(3, 3), (12, 18)]) == "3, 12-18"
    assert format_ranges([]) == "none"
    assert format_ranges([(i, i) for i in range(0, 20, 2)], limit=3) == "0, 2, 4 and 7 more"


def test_raise_names_the_frames(track):
    with pytest.raises(
        ValueError, match=r"no face was found in 5 of 7 frames \(0, 2-4, 6\); .*hold or interpolate"
    ):
        fill_missing(track, "raise")


def test_hold_repeats_the_last_face_and_starts_with_the_first(track):
    held = fill_missing(track, "hold")
    source = [1, 1, 1, 1, 1, 5, 5]
    assert torch.equal(held.expression, track.expression[source]) and torch.equal(
        held.pose, track.pose[source]
    )
    assert torch.equal(held.camera.view, track.camera.view[source])


def test_interpolate_moves_evenly_and_holds_at_the_ends(track):
    filled = fill_missing(track, "interpolate")
    assert filled.complete
    torch.testing.assert_close(filled.expression[3], (track.expression[1] + track.expression[5]) / 2)
    quarter = 0.75 * track.camera.view[1, :, 3] + 0.25 * track.camera.view[5, :, 3]
    torch.testing.assert_close(filled.camera.view[2, :, 3], quarter)
    assert torch.equal(filled.pose[0], track.pose[1]) and torch.equal(filled.pose[6], track.pose[5])


@pytest.mark.parametrize("policy", ["hold", "interpolate"])
def test_filled_frames_stay_marked_and_found_ones_untouched(track, policy):
    filled = fill_missing(track, policy)
    assert filled.found.tolist() == FOUND and filled.confidence[~filled.found].abs().max() == 0
    assert torch.equal(filled.pose[filled.found], track.pose[track.found])
    assert torch.equal(filled.expression[filled.found], track.expression[track.found])
    assert filled.landmarks[~filled.found].isnan().all() and filled.error[~filled.found].isnan().all()


def test_a_complete_track_is_returned_as_it_is():
    track = synthetic_track(synthetic_head())
    assert fill_missing(track, "raise") is track


def test_nothing_to_fill_from_and_unknown_policies_are_refused(track):
    with pytest.raises(ValueError, match="no face was found in any of the 7 frames"):
        fill_missing(replace(track, found=torch.zeros(7, dtype=torch.bool)), "hold")
    with pytest.raises(ValueError, match="missing='guess'; expected one of raise, hold, interpolate"):
        fill_missing(track, "guess")
