"""The sound that belongs to the frames that were read from the driving clip."""

from __future__ import annotations

import itertools
import logging

import av
import numpy as np
import torch
from comfy_api.latest import Input, InputImpl
from torch import Tensor

logger = logging.getLogger("magicportrait")


def clip_sound(driving: Tensor | Input.Video, begin: float, seconds: float) -> dict | None:
    """The host's AUDIO of `seconds` from `begin`, in seconds of the clip as connected; None without sound."""
    if isinstance(driving, Tensor):
        return None
    if isinstance(driving, InputImpl.VideoFromComponents):
        audio = driving.get_components().audio
        return None if audio is None else cut(audio["waveform"], audio["sample_rate"], begin, seconds)
    offset, _ = driving.get_active_trim_window()
    return file_sound(driving.get_stream_source(), offset + begin, seconds)


def file_sound(source, begin: float, seconds: float) -> dict | None:
    """Sound of a file or stream from `begin` on; silence where it starts later than the pictures."""
    try:
        with av.open(source) as container:
            # A stream FFmpeg has no decoder for has no codec context; decoding it ends the process.
            stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
            if stream is None:
                return None
            return decode_sound(container, stream, begin, seconds)
    except av.FFmpegError as error:
        logger.warning("the driving video's sound cannot be read (%s); going on without it", error)
        return None


def decode_sound(container, stream, begin: float, seconds: float) -> dict | None:
    resampler = av.AudioResampler(format="fltp")
    if begin > 0:
        container.seek(int(begin / stream.time_base), stream=stream)
    parts, first = [], None
    for frame in itertools.chain.from_iterable(map(resampler.resample, container.decode(stream))):
        if frame.time is not None and frame.time >= begin + seconds:
            break
        first = frame.time or 0.0 if first is None else first
        parts.append(frame.to_ndarray())
    if not parts:
        return None
    waveform = torch.from_numpy(np.concatenate(parts, axis=1))[None]  # (1, channels, samples)
    return cut(waveform, stream.sample_rate, begin - first, seconds)


def cut(
    waveform: Tensor,  # (1, channels, samples)
    rate: int,
    begin: float,  # seconds; negative adds silence in front
    seconds: float,
) -> dict:
    """The host's AUDIO of exactly `seconds`, shorter only if the sound ends earlier."""
    if begin < 0:
        waveform = torch.nn.functional.pad(waveform, (round(-begin * rate), 0))
        begin = 0.0
    first = round(begin * rate)
    return {
        "waveform": waveform[..., first : first + round(seconds * rate)].clone(),
        "sample_rate": int(rate),
    }
