"""Animated WebP, GIF and PNG as timed frames, through Pillow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .image import display_name, from_pillow, reason_of

SHORTEST_DURATION = 10  # milliseconds; as browsers do, anything shorter counts as
DEFAULT_DURATION = 100


def is_animated_picture(source: str | os.PathLike | BinaryIO) -> bool:
    """By content: GIF and WebP (FFmpeg reads no animated WebP and ignores a GIF's per-frame times)."""
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:
            head = file.read(12)
    else:
        source.seek(0)
        head = source.read(12)
        source.seek(0)
    return head[:4] == b"GIF8" or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


@dataclass(frozen=True)
class AnimatedPicture:
    """Satisfies media.video.TimedFrames."""

    source: str | os.PathLike | BinaryIO
    size: tuple[int, int]
    fps: Fraction
    num_frames: int

    @classmethod
    def probe(cls, source: str | os.PathLike | BinaryIO) -> AnimatedPicture:
        total, count = 0, 0
        with _open(source) as picture:
            size = (picture.height, picture.width)
            for count in range(1, getattr(picture, "n_frames", 1) + 1):  # noqa: B007
                total += _show(picture, count - 1)
        return cls(source, size, Fraction(1000 * count, total), count)

    def frames(self, start: float) -> Iterator[tuple[float, Tensor]]:
        time = 0
        with _open(self.source) as picture:
            for index in range(self.num_frames):
                duration = _show(picture, index)
                if time + duration > start * 1000 + 1e-3:
                    yield time / 1000, from_pillow(picture.copy())
                time += duration


def _show(picture: Image.Image, index: int) -> int:
    """Goes to a frame; its duration in milliseconds."""
    try:
        picture.seek(index)
        picture.load()  # a WebP's duration is known only after decoding
    except (OSError, EOFError, SyntaxError) as error:
        raise ValueError(
            f"frame {index} of {display_name(picture.filename)} cannot be decoded ({reason_of(error)}); "
            "save the animation again"
        ) from error
    duration = round(picture.info.get("duration") or 0)
    return duration if duration >= SHORTEST_DURATION else DEFAULT_DURATION


def _open(source: str | os.PathLike | BinaryIO) -> Image.Image:
    try:
        if not isinstance(source, (str, os.PathLike)):
            source.seek(0)
        return Image.open(source)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(
            f"{display_name(source)} cannot be read as an animation ({reason_of(error)}); save it again"
        ) from error
