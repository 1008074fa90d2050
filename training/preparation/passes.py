"""The two passes over a video: where the faces are, and then the frames of what is worth it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from magicportrait_core.media.video import VideoReader
from magicportrait_core.tracking.following import follow_face
from training.preparation.options import PrepareOptions
from training.preparation.shots import shots
from training.preparation.spans import Fault, Span, spans_of
from training.preparation.tools import Tools

Taken = TypeVar("Taken")
logger = logging.getLogger("magicportrait")


@dataclass(frozen=True)
class FoundSpans:
    spans: list[Span]
    frames: int
    shots: int


def find_spans(
    video: VideoReader, tools: Tools, options: PrepareOptions, on_frame: Callable[[int], None]
) -> FoundSpans:
    """The first pass: where faces are, in each shot the largest."""
    spans, start, count = [], 0, 0
    for shot in shots(readable(video)):
        length, count = [0], count + 1

        def counted(shot: Iterator[Tensor] = shot, length: list[int] = length, start: int = start):
            for frame in shot:
                length[0] += 1
                on_frame(start + length[0])
                yield frame

        try:
            seen = follow_face(counted(), tools.landmarker, fps=float(video.fps))
            spans += spans_of(seen, start, options)
        except ValueError as error:  # no face
            spans.append(Span(start, start + length[0], fault=Fault("no face", str(error))))
        start += length[0]
    return FoundSpans(spread(spans, options.max_clips), start, count)


def spread(spans: list[Span], most: int | None) -> list[Span]:
    """Without the good ones beyond `most`; the rest lie evenly over the video."""
    good = [span.start for span in spans if span.fault is None]
    if most is None or len(good) <= most:
        return spans
    chosen = {good[i * len(good) // most] for i in range(most)}
    return [span for span in spans if span.fault is not None or span.start in chosen]


def readable(video: VideoReader) -> Iterator[Tensor]:
    """Frames up to the first that cannot be decoded. ValueError when that is the very first."""
    count = 0
    frames = iter(video)
    while True:
        try:
            frame = next(frames)
        except StopIteration:
            return
        except (ValueError, OSError) as error:
            if count == 0:
                raise
            logger.warning("%s; the %d frames before are used", error, count)
            return
        yield frame
        count += 1


def pictures_of(
    video: VideoReader,
    spans: list[Span],
    take: Callable[[Span, Tensor], Taken],  # what to keep of a frame
) -> Iterator[tuple[Span, list[Taken]]]:
    """The second pass: each span with what was taken of its frames; of a faulty one only the first."""
    frames = enumerate(readable(video))
    for span in spans:
        stop = span.stop if span.fault is None else span.start + 1
        taken = []
        for number, frame in frames:
            if number >= span.start:
                taken.append(take(span, frame))
            if number == stop - 1:
                break
        yield span, taken
