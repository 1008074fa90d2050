"""The driving clip of the host, VIDEO or IMAGE batch, as frames that are read one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from comfy_api.latest import Input, InputImpl
from torch import Tensor

from ..magicportrait_core.media.image import from_levels, resize, to_levels
from ..magicportrait_core.media.video import VideoReader, open_video
from ..magicportrait_core.tracking.blending import blend_frames
from ..magicportrait_core.tracking.track import FaceTrack
from . import host

IMAGE_FPS = 25.0  # of an IMAGE batch when nobody says
UNEVEN = 0.5  # of a frame: a video whose frames are further off their places has a variable rate
HEAP_BYTES = 2**28  # of frames, after which unused memory is given back
ERROR_NUMBER = re.compile(r"\[Errno -?\d+\] |: '[^']*(?=\))")  # and the path: of no use to people
TIME_ROUNDING = 1e-3  # seconds; file times are rounded


@dataclass
class DrivingClip:
    """Frames of a clip with small copies of those that were read; one pass, in order."""

    size: tuple[int, int]  # height, width
    fps: float
    expected: int  # frames, an estimate; 0 when unknown
    timed: Iterator[tuple[float, Tensor]]  # seconds from the start of the clip, (3, H, W)
    copy_side: int  # longer side of the copies
    start: int = 0  # number of the first frame in the clip that was connected
    begin: float = 0.0  # seconds, where the first frame that was read stands in the clip
    times: list[float] = field(default_factory=list)  # of the frames that were read, from the first
    copies: list[Tensor] = field(default_factory=list)  # uint8 (h, w, 3)

    def __iter__(self) -> Iterator[Tensor]:
        copy_size = host.scaled(self.size, min(self.copy_side, max(self.size)))
        every = max(1, HEAP_BYTES // (12 * self.size[0] * self.size[1]))
        for time, frame in self.timed:
            if len(self.times) % every == every - 1:
                host.trim_heap()
            self.begin = self.begin if self.times else time
            self.times.append(time - self.begin)
            self.copies.append(to_levels(resize(frame, copy_size, "area")))
            yield frame

    def copy(self, index: int) -> Tensor:  # (3, h, w) in [-1, 1]
        return from_levels(self.copies[index])

    def nearest(self, times: list[float]) -> list[int]:
        """The copies that stand nearest to the given times."""
        stands = torch.tensor(self.times)
        return [int((stands - time).abs().argmin()) for time in times]


def open_clip(
    driving: Tensor | Input.Video, fps: float, start: int, limit: int, copy_side: int
) -> DrivingClip:
    """The frames `start` .. `start + limit` (0: to the end) of the host's VIDEO or IMAGE batch."""
    if isinstance(driving, Tensor):
        return open_batch(driving, fps or IMAGE_FPS, start, limit, copy_side)
    if isinstance(driving, InputImpl.VideoFromComponents):
        parts = driving.get_components()  # in memory already; its stream would be encoded anew
        return open_batch(parts.images, float(parts.frame_rate), start, limit, copy_side)
    if not hasattr(driving, "get_stream_source"):
        raise ValueError(
            f"driving is {type(driving).__name__}; connect a VIDEO (Load Video) or a batch of IMAGEs to it"
        )
    try:
        begin, duration = driving.get_active_trim_window()
        stop = begin + duration if duration else None
        reader = open_video(driving.get_stream_source(), start=begin, stop=stop)
    except (ValueError, OSError) as error:
        raise ValueError(f"Driving video: {ERROR_NUMBER.sub('', str(error))}.") from error
    expected = max(0, reader.num_frames - start)
    return DrivingClip(
        reader.size,
        float(reader.fps),
        min(expected, limit) if limit and expected else limit or expected,
        frames_between(reader, begin, start, limit),
        copy_side,
        start,
    )


def count_frames(clip: DrivingClip) -> int:
    """How many frames the clip really has; reads them, but keeps none."""
    count = 0
    for _ in clip.timed:
        host.check_cancelled()
        count += 1
    return count


def frames_between(
    reader: VideoReader, begin: float, start: int, limit: int
) -> Iterator[tuple[float, Tensor]]:
    count = 0
    with reader:
        for time, frame in reader.timed_frames():
            if time < begin - TIME_ROUNDING:  # still on screen at `begin`, but the host leaves it out as well
                continue
            count += 1
            if count <= start:
                host.check_cancelled()
                continue
            yield time - begin, frame
            if limit and count == start + limit:
                return
    if count <= start:
        raise ValueError(no_such_frame(start, count))


def open_batch(images: Tensor, fps: float, start: int, limit: int, copy_side: int) -> DrivingClip:
    images = images[None] if images.ndim == 3 else images
    total = images.shape[0]
    if start >= total:
        raise ValueError(no_such_frame(start, total))
    stop = min(total, start + limit) if limit else total
    timed = ((i / fps, host.to_pictures(images[i : i + 1])[0]) for i in range(start, stop))
    return DrivingClip(tuple(images.shape[1:3]), fps, stop - start, timed, copy_side, start)


def no_such_frame(start: int, count: int) -> str:
    return (
        f"start_frame is {start}, but the driving clip has {count} frame{'s' * (count != 1)}: "
        f"choose a start below {count}"
    )


def is_uneven(times: list[float], fps: float) -> bool:
    """Whether frames stand so far from their places that the rate must be called variable."""
    return any(abs(time - number / fps) > UNEVEN / fps for number, time in enumerate(times))


def retimed(track: FaceTrack, times: list[float], fps: float) -> FaceTrack:
    """The track played at the constant rate `fps`, from frames that stand at `times` (seconds).

    Frames that stand at their places within half a frame keep their values; else each new frame is blended
    from the two around it, so that a variable rate neither hurries nor drags.
    """
    if track.num_frames == 1 or (track.fps == fps and not is_uneven(times, fps)):
        return track
    stands = torch.tensor(times, dtype=torch.float64)
    last_duration = stands[-1] - stands[-2]
    count = max(1, round(float(stands[-1] + last_duration) * fps))
    wanted = (torch.arange(count, dtype=torch.float64) / fps).clamp(max=float(stands[-1]))
    after = torch.searchsorted(stands, wanted).clamp(1, len(times) - 1)
    before = after - 1
    amount = (wanted - stands[before]) / (stands[after] - stands[before]).clamp(min=1e-9)
    return replace(blend_frames(track, before, after, amount.clamp(0, 1).float()), fps=fps)
