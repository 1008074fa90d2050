"""Writing frames as an mp4 that plays everywhere: H.264, yuv420p, optional sound of another file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import torch.nn.functional as F
from torch import Tensor

from .image import display_name, reason_of, to_levels

BT709 = 1  # ITU-T H.273 code of BT.709 for primaries, transfer and matrix
LIMITED_RANGE = 1  # FFmpeg's AVCOL_RANGE_MPEG
SOUND_RATE = 48_000


def write_video(
    path: str | os.PathLike,
    frames: Iterable[Tensor],  # (3, H, W) in [-1, 1] each
    fps: float | Fraction,
    audio: str | os.PathLike | BinaryIO | None = None,  # a file whose first sound is added, if it has one
    audio_start: float = 0.0,  # seconds of it to leave out
    quality: int = 17,  # H.264 crf: 0 is lossless, 17 looks it, 51 is worst
) -> int:
    """Writes an mp4 and returns the number of frames. The file appears only when it is complete; sound is
    cut to the pictures. Odd sizes get one more row or column, as 4:2:0 colour asks for."""
    path = Path(path)
    if fps <= 0:
        raise ValueError(f"fps={float(fps):g}; expected a rate above 0")
    if path.suffix.lower() not in (".mp4", ".mov", ".mkv"):
        raise ValueError(f"{path.name!r} does not end in .mp4, .mov or .mkv; choose one of them")
    rate = Fraction(fps).limit_denominator(100_000)
    with _replaced_when_complete(path) as partial, av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(quality)})
        sound = None
        if audio is not None and has_sound(audio):
            sound = _Sound(audio, container.add_stream("aac", rate=SOUND_RATE), audio_start)
        count, size = 0, None
        for frame in frames:
            picture = _even(frame)
            if size is None:
                size = tuple(picture.shape[-2:])
                _describe(stream, size)
            elif tuple(picture.shape[-2:]) != size:
                raise ValueError(
                    f"frame {count} is {frame.shape[-1]}x{frame.shape[-2]}, the first was "
                    f"{size[1]}x{size[0]}; all frames of a video have one size"
                )
            container.mux(stream.encode(_encoded(picture)))
            count += 1
            if sound is not None:
                container.mux(sound.packets_until(float(count / rate)))
        if count == 0:
            raise ValueError(f"there are no frames to write to {path.name!r}")
        container.mux(stream.encode())
        if sound is not None:
            container.mux(sound.last_packets())
    return count


def has_sound(source: str | os.PathLike | BinaryIO) -> bool:
    """Whether the file has an audio stream; pictures and animations have none."""
    if hasattr(source, "seek"):
        source.seek(0)
    try:
        with av.open(source if hasattr(source, "read") else os.fspath(source)) as container:
            return bool(container.streams.audio)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no audio at {display_name(source)}; check the path") from error
    except (av.FFmpegError, OSError):
        return False


@contextmanager
def _replaced_when_complete(path: Path) -> Iterator[Path]:
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _describe(stream: av.VideoStream, size: tuple[int, int]) -> None:
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = LIMITED_RANGE


def _even(frame: Tensor) -> Tensor:
    if frame.ndim != 3 or frame.shape[0] != 3:
        raise ValueError(f"frame is {tuple(frame.shape)}; expected (3, H, W)")
    height, width = frame.shape[-2:]
    if height % 2 or width % 2:
        frame = F.pad(frame[None], (0, width % 2, 0, height % 2), mode="replicate")[0]
    return frame


def _encoded(picture: Tensor) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(to_levels(picture).numpy(), format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")


class _Sound:
    """Another file's sound, encoded anew in step with the pictures."""

    def __init__(self, source: str | os.PathLike | BinaryIO, stream: av.AudioStream, start: float):
        self.stream = stream
        self.samples = _samples(source, round(start * SOUND_RATE))
        self.pending = np.zeros((2, 0), np.float32)
        self.written = 0

    def packets_until(self, seconds: float) -> list[av.Packet]:
        wanted = round(seconds * SOUND_RATE) - self.written
        while self.pending.shape[1] < wanted and (more := next(self.samples, None)) is not None:
            self.pending = np.concatenate((self.pending, more), 1)
        piece, self.pending = self.pending[:, :wanted], self.pending[:, wanted:]
        if not piece.shape[1]:
            return []
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout="stereo")
        frame.rate, frame.pts, frame.time_base = SOUND_RATE, self.written, Fraction(1, SOUND_RATE)
        self.written += piece.shape[1]
        return self.stream.encode(frame)

    def last_packets(self) -> list[av.Packet]:
        self.samples.close()
        return self.stream.encode(None)


def _samples(source: str | os.PathLike | BinaryIO, skip: int) -> Iterator[np.ndarray]:
    """(2, N) pieces at SOUND_RATE without the first `skip` samples. Gaps and odd starts are not kept."""
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=SOUND_RATE)
    if hasattr(source, "seek"):
        source.seek(0)
    try:
        with av.open(source if hasattr(source, "read") else os.fspath(source)) as container:
            for decoded in container.decode(container.streams.audio[0]):
                decoded.pts = None
                for frame in resampler.resample(decoded):
                    piece = frame.to_ndarray()
                    if skip < piece.shape[1]:
                        yield piece[:, skip:]
                    skip = max(0, skip - piece.shape[1])
    except av.FFmpegError as error:
        raise ValueError(
            f"the sound of {display_name(source)} cannot be decoded ({reason_of(error)}); "
            "write the video without it"
        ) from error
