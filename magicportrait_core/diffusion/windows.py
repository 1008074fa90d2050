"""Temporal windows: which frames the network sees together."""

from __future__ import annotations

from typing import Literal, get_args

from .segments import Windows

WindowPlan = Literal["open", "loop", "released"]


def plan_windows(
    num_frames: int,
    size: int = 12,  # frames of a window, ModelConfig.window
    overlap: int = 1,  # frames that neighbours share at least
    plan: WindowPlan = "open",
) -> Windows:
    """Windows that cover every frame of a clip; a clip of at most `size` frames is one window.

    open: from the first frame to the last, as few windows as possible, evenly spread.
    loop: the same on a circle, so that the last frame leads into the first; short clips get turned windows.
    released: what the released pipeline does (facts b): a window every size - overlap frames, those that pass
    the end go on at the first frame.
    """
    if plan not in get_args(WindowPlan):
        raise ValueError(f"plan={plan!r}; expected one of {', '.join(get_args(WindowPlan))}")
    if num_frames < 1:
        raise ValueError(f"the clip has {num_frames} frames; expected at least 1")
    if size < 1 or not 0 <= overlap < size:
        raise ValueError(
            f"windows of {size} frames with an overlap of {overlap}; expected at least 1 frame and an "
            "overlap from 0 to one less than the window"
        )
    size = min(size, num_frames)
    overlap = min(overlap, size - 1)
    starts = {"open": _open_starts, "loop": _loop_starts, "released": _released_starts}[plan]
    return tuple(
        tuple((start + i) % num_frames for i in range(size)) for start in starts(num_frames, size, overlap)
    )


def part_of(windows: Windows, index: int, count: int) -> Windows:
    """The share of worker `index` (from 0) of `count`: windows that follow one another."""
    if not 1 <= count <= len(windows):
        raise ValueError(f"{count} workers for {len(windows)} windows; expected 1 to {len(windows)}")
    if not 0 <= index < count:
        raise ValueError(f"worker {index} of {count}; expected 0 to {count - 1}")
    return windows[index * len(windows) // count : (index + 1) * len(windows) // count]


def _open_starts(num_frames: int, size: int, overlap: int) -> list[int]:
    count = _ceil_divide(num_frames - overlap, size - overlap)
    return [i * (num_frames - size) // max(count - 1, 1) for i in range(count)]


def _loop_starts(num_frames: int, size: int, overlap: int) -> list[int]:
    count = _ceil_divide(num_frames, size - overlap)
    return [i * num_frames // count for i in range(count)]


def _released_starts(num_frames: int, size: int, overlap: int) -> list[int]:
    return [0] if num_frames == size else list(range(0, num_frames, size - overlap))


def _ceil_divide(a: int, b: int) -> int:
    return -(-a // b)
