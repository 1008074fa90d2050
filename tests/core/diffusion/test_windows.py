"""Window plans: the released lists, and what holds for every length of clip."""

import json
from itertools import pairwise

import pytest

from magicportrait_core.diffusion.windows import part_of, plan_windows

SIZE = 12
OVERLAPS = (0, 1, 4, 11)
CLIPS = range(1, 201)


def test_released_plan(golden):
    lists = json.loads((golden / "schedule_context.json").read_text())[
        "context_windows_size12_stride1_overlap1"
    ]
    assert len(lists) == 15
    for frames, windows in lists.items():
        assert plan_windows(int(frames), plan="released") == tuple(tuple(window) for window in windows)


def test_hundred_frames_take_nine_windows_where_the_released_plan_takes_ten():
    windows = plan_windows(100)
    assert [window[0] for window in windows] == [0, 11, 22, 33, 44, 55, 66, 77, 88]
    assert windows[-1][-1] == 99
    assert len(plan_windows(100, plan="released")) == 10


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("plan", ["open", "loop", "released"])
def test_every_frame_is_covered_by_windows_that_are_never_too_long(plan, overlap):
    for frames in CLIPS:
        windows = plan_windows(frames, SIZE, overlap, plan)
        assert {frame for window in windows for frame in window} == set(range(frames))
        assert all(len(set(window)) == len(window) == min(SIZE, frames) for window in windows)
        assert all((b - a) % frames == 1 % frames for window in windows for a, b in pairwise(window))


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_open_windows_are_as_few_as_possible_and_do_not_wrap(overlap):
    for frames in CLIPS:
        windows = plan_windows(frames, SIZE, overlap, "open")
        assert all(window == tuple(range(window[0], window[-1] + 1)) for window in windows)
        if frames <= SIZE:
            assert len(windows) == 1
            continue
        assert all(len(set(a) & set(b)) >= overlap for a, b in pairwise(windows))
        one_less = SIZE + (len(windows) - 2) * (SIZE - overlap)  # the longest clip for one window less
        assert one_less < frames
        steps = [b[0] - a[0] for a, b in pairwise(windows)]
        assert max(steps) - min(steps) <= 1


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_loop_windows_join_the_end_with_the_beginning(overlap):
    for frames in range(2, 201):
        windows = plan_windows(frames, SIZE, overlap, "loop")
        least = min(overlap, min(SIZE, frames) - 1)
        assert all(len(set(a) & set(b)) >= least for a, b in pairwise((*windows, windows[0])))
        if overlap:
            assert any((frames - 1, 0) in pairwise(window) for window in windows)


def test_a_single_frame_is_one_window():
    for plan in ("open", "loop", "released"):
        assert plan_windows(1, plan=plan) == ((0,),)


def test_workers_share_the_windows_in_order():
    windows = plan_windows(100)
    for count in range(1, len(windows) + 1):
        parts = [part_of(windows, index, count) for index in range(count)]
        assert sum(parts, ()) == windows
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "the clip has 0 frames; expected at least 1"),
        ({"num_frames": 30, "size": 12, "overlap": 12}, "overlap of 12; expected"),
        ({"num_frames": 30, "size": 0, "overlap": 0}, "windows of 0 frames"),
        ({"num_frames": 30, "overlap": -1}, "overlap of -1; expected"),
        ({"num_frames": 30, "plan": "closed"}, "plan='closed'; expected one of open, loop, released"),
    ],
)
def test_impossible_plans_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan_windows(**arguments)


def test_more_workers_than_windows_are_refused():
    with pytest.raises(ValueError, match="3 workers for 2 windows; expected 1 to 2"):
        part_of(plan_windows(20), 0, 3)
    with pytest.raises(ValueError, match="worker 2 of 2; expected 0 to 1"):
        part_of(plan_windows(20), 2, 2)
