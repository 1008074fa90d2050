"""Reading and writing video one frame at a time. A frame is (3, H, W) float32 in [-1, 1]."""

from __future__ import annotations

import itertools
import logging
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Protocol

import av
import numpy as np
import torch
from torch import Tensor

from .animation import AnimatedPicture, is_animated_picture
from .image import display_name, from_levels, reason_of, resize
from .video_writing import write_video

__all__ = ["VideoReader", "open_video", "write_video"]

Source = str | os.PathLike | BinaryIO
MAX_FPS = 1000
MAX_DAMAGED = 1000  # packets; then the rest of a file is given up
logger = logging.getLogger("magicportrait")


class TimedFrames(Protocol):
    """What a kind of file has to offer."""

    size: tuple[int, int]  # height, width, upright
    fps: Fraction  # average
    num_frames: int  # estimate; 0 when the file does not say

    def frames(self, start: float) -> Iterator[tuple[float, Tensor]]:
        """Seconds since the first frame, and the frame; none that ends before `start`."""


@dataclass(frozen=True)
class VideoReader:
    """A video that can be iterated over any number of times; every pass opens the file and closes it.

    Frames are upright. Without `constant_fps` each stored frame comes once, whatever its duration;
    `fps` is then the average. With it, frames are repeated or dropped so that they play in real time.
    """

    file: TimedFrames
    name: str  # for messages
    constant_fps: Fraction | None = None
    start: float = 0.0  # seconds
    stop: float = math.inf
    max_frames: int | None = None
    _passes: list = field(default_factory=list, repr=False, compare=False)

    @property
    def size(self) -> tuple[int, int]:
        """height, width, pixels."""
        return self.file.size

    @property
    def fps(self) -> Fraction:
        return self.constant_fps or self.file.fps

    @property
    def num_frames(self) -> int:
        """How many frames iteration is expected to give; 0 when the file does not say."""
        total = self.file.num_frames
        duration = min(self.stop, float(total / self.file.fps)) - self.start if total else 0.0
        if total and (self.constant_fps or self.start > 0 or self.stop < math.inf):
            total = max(1, math.ceil(duration * float(self.fps) - 1e-3))
        return min(total, self.max_frames) if self.max_frames else total

    def __iter__(self) -> Iterator[Tensor]:
        frames = (frame for _, frame in self.timed_frames())
        self._passes.append(frames)
        return frames

    def timed_frames(self) -> Iterator[tuple[float, Tensor]]:
        """(seconds since the first frame of the file, frame) pairs."""
        timed = self._trimmed()
        if self.constant_fps:
            end = min(self.stop, float(self.file.num_frames / self.file.fps) or math.inf)
            timed = at_constant_rate(timed, self.constant_fps, self.start, end)
        empty = True
        for timed_frame in itertools.islice(timed, self.max_frames):
            empty = False
            yield timed_frame
        if empty:
            raise ValueError(
                f"{self.name} has no frame between {self.start:g} s and {self.stop:g} s; "
                "choose a range inside the video"
                if self.start > 0 or self.stop < math.inf
                else f"{self.name} holds no frame that can be decoded; export the video again as mp4 (H.264)"
            )

    def _trimmed(self) -> Iterator[tuple[float, Tensor]]:
        with closing(self.file.frames(self.start)) as frames:
            for time, frame in frames:
                if time >= self.stop:
                    return
                if tuple(frame.shape[-2:]) != self.size:  # some recordings change size on the way
                    frame = resize(frame, self.size)
                yield time, frame

    def close(self) -> None:
        """Ends passes that were left half-way, and closes their files."""
        while self._passes:
            self._passes.pop().close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def open_video(
    source: Source,
    fps: float | Fraction | None = None,  # resample to this constant rate
    start: float = 0.0,  # seconds
    stop: float | None = None,  # seconds; None is the end
    max_frames: int | None = None,
) -> VideoReader:
    """A video file, animated WebP or GIF by path or open binary file. Only its header is read here."""
    name = display_name(source)
    if fps is not None and not 0 < fps <= MAX_FPS:
        raise ValueError(f"fps={float(fps):g}; expected a rate above 0 and at most {MAX_FPS}")
    if start < 0 or (stop is not None and stop <= start):
        raise ValueError(
            f"range {start:g} s to {stop:g} s is empty; stop must be later than start, start 0 or more"
        )
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"max_frames={max_frames}; expected 1 or more, or None for all")
    if isinstance(source, (str, os.PathLike)) and not Path(source).is_file():
        raise FileNotFoundError(f"there is no video at {name}; check the path")
    file = AnimatedPicture.probe(source) if is_animated_picture(source) else VideoFile.probe(source)
    rate = None if fps is None else Fraction(fps).limit_denominator(100_000)
    return VideoReader(file, name, rate, start, math.inf if stop is None else stop, max_frames)


def at_constant_rate(
    timed: Iterable[tuple[float, Tensor]],
    fps: Fraction,
    start: float = 0.0,
    end: float = math.inf,  # when the last frame goes; if not known, it lasts as long as the one before it
) -> Iterator[tuple[float, Tensor]]:
    """The frame on screen at start, start + 1 / fps, ..."""
    shown, index, last_duration = None, 0, float(1 / fps)
    slack = 1e-3 / float(fps)  # file times are rounded to their time base

    def due(until: float) -> Iterator[tuple[float, Tensor]]:
        nonlocal index
        while (time := start + float(index / fps)) < until - slack:
            index += 1
            yield time, shown[1]

    for following in timed:
        if shown is not None:
            last_duration = following[0] - shown[0]
            yield from due(following[0])
        shown = following
    if shown is not None:
        yield from due(end if shown[0] < end < math.inf else shown[0] + last_duration)


@dataclass(frozen=True)
class VideoFile:
    """A file that FFmpeg reads."""

    source: Source
    size: tuple[int, int]
    fps: Fraction
    num_frames: int

    @classmethod
    def probe(cls, source: Source) -> VideoFile:
        name = display_name(source)
        with _open(source) as container:
            if not container.streams.video:
                kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
                raise ValueError(f"{name} has no pictures in it (found: {kinds}); choose a video file")
            stream = container.streams.video[0]
            try:
                first = next(container.decode(stream), None)
            except av.FFmpegError as error:
                raise _unreadable(name, error) from error
            if first is None:
                raise _unreadable(name, ValueError("no frame can be decoded"))
            size = (first.height, first.width)
            if first.rotation % 180:
                size = size[::-1]
            fps = next((r for r in (stream.average_rate, stream.guessed_rate) if r), Fraction(25))
            count = stream.frames
            if not count and (duration := _duration(container, stream)):
                count = max(1, round(duration * fps))
            return cls(source, size, Fraction(fps), count)

    def frames(self, start: float) -> Iterator[tuple[float, Tensor]]:
        with _open(self.source) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            begin = float(stream.start_time * stream.time_base) if stream.start_time else 0.0
            if start > 0 and stream.time_base:
                container.seek(int((begin + start) / stream.time_base), stream=stream)
            length, on_screen = float(1 / self.fps), None
            for number, frame in enumerate(_decoded(container, stream, display_name(self.source))):
                # Files without times count frames.
                time = frame.time - begin if frame.time is not None else number * length
                if time <= start:
                    on_screen = (time, frame)
                    continue
                if on_screen is not None:
                    yield on_screen[0], upright(on_screen[1])
                    on_screen = None
                yield time, upright(frame)
            if on_screen is not None and on_screen[0] + length > start:
                yield on_screen[0], upright(on_screen[1])


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, name: str
) -> Iterator[av.VideoFrame]:
    """Frames of a file that may be damaged: what cannot be decoded is left out, with a warning."""
    count, damaged, reason = 0, 0, ""
    packets = container.demux(stream)
    while True:
        frames = []
        try:
            frames = next(packets).decode()
        except StopIteration:
            break
        except av.FFmpegError as error:
            damaged, reason = damaged + 1, reason_of(error)
            if isinstance(error, av.EOFError) or damaged > MAX_DAMAGED:
                break
        count += len(frames)
        yield from frames
    if damaged and count == 0:
        raise _unreadable(name, ValueError(reason))
    if damaged:
        logger.warning("%s is damaged (%s); the %d frames that can be read are used", name, reason, count)


def upright(frame: av.VideoFrame) -> Tensor:  # (3, H, W) in [-1, 1]
    """The frame as a player shows it; the display matrix turns counter-clockwise."""
    pixels = frame.to_ndarray(format="rgb24")
    quarter_turns = round(frame.rotation / 90) % 4
    return from_levels(torch.from_numpy(np.ascontiguousarray(np.rot90(pixels, quarter_turns))))


def _open(source: Source) -> av.container.InputContainer:
    try:
        if not isinstance(source, (str, os.PathLike)):
            source.seek(0)
        return av.open(source if hasattr(source, "read") else os.fspath(source))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _unreadable(display_name(source), error) from error


def _unreadable(name: str, error: Exception) -> ValueError:
    return ValueError(
        f"{name} cannot be read as a video ({reason_of(error)}); the file may be damaged or incomplete: "
        "export it again as mp4 (H.264)"
    )


def _duration(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else 0.0
