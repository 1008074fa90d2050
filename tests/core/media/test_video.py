"""Reading video: turned, uneven, trimmed, broken; every file is made here."""

import io
import logging
import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from magicportrait_core.media.video import at_constant_rate, open_video, write_video

RED, GREEN, BLUE = (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0)
IDENTITY = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
# Display matrices (ISO 14496-12 tkhd): what a phone writes when it is held turned clockwise by so much.
TURNED = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def grey(level: float, size: tuple[int, int] = (48, 64)) -> torch.Tensor:
    return torch.full((3, *size), level)


def level(frame: torch.Tensor) -> float:
    return float(frame.mean())


@pytest.fixture
def ramp(tmp_path) -> Path:
    """Twelve frames from dark to bright, 12 frames per second."""
    path = tmp_path / "ramp.mp4"
    write_video(path, (grey(-0.9 + 0.15 * k) for k in range(12)), 12)
    return path


def uneven(path: Path, times: tuple[int, ...]) -> Path:
    """A file whose frames, from dark to bright, stand at `times` in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            pixels = np.full((48, 64, 3), 20 + 40 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_what_was_written_is_read(ramp):
    reader = open_video(ramp)
    assert (reader.size, reader.fps, reader.num_frames) == ((48, 64), 12, 12)
    frames = list(reader)
    assert len(frames) == 12 and frames[0].shape == (3, 48, 64) and frames[0].dtype == torch.float32
    for number, frame in enumerate(frames):
        assert level(frame) == pytest.approx(-0.9 + 0.15 * number, abs=0.03)


def test_colours_survive(tmp_path):
    path = tmp_path / "colours.mp4"
    colours = [torch.tensor(c)[:, None, None].expand(3, 720, 1280) * 0.6 for c in (RED, GREEN, BLUE)]
    write_video(path, colours, 25)
    for read, written in zip(open_video(path), colours, strict=True):
        assert float((read.mean((1, 2)) - written.mean((1, 2))).abs().max()) < 0.03


def test_a_reader_can_be_read_again_and_left_half_way(ramp):
    with open_video(ramp) as reader:
        first = next(iter(reader))
        assert len(list(reader)) == 12
        assert torch.equal(next(iter(reader)), first)
        passing = iter(reader)
        next(passing)
    assert list(passing) == []  # leaving the context ended it


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_no_file_stays_open(ramp):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with open_video(ramp) as reader:
            next(iter(reader))
        list(open_video(ramp))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_stream_reads_as_the_file_does(ramp):
    stream = io.BytesIO(ramp.read_bytes())
    reader = open_video(stream)
    assert len(list(reader)) == len(list(reader)) == 12
    assert torch.equal(next(iter(reader)), next(iter(open_video(ramp))))


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotation_metadata_is_applied(tmp_path, angle):
    path = tmp_path / "turned.mp4"
    picture = grey(-0.5)
    picture[:, :12, :16] = 0.8  # the top left corner of what is stored
    write_video(path, [picture] * 3, 12)
    data = path.read_bytes()
    a, b, c, d = (value * 0x10000 for value in TURNED[angle])
    start = data.index(IDENTITY, data.index(b"tkhd"))
    turned = data[:start] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000) + data[start + 36 :]
    path.write_bytes(turned)
    reader = open_video(path)
    assert reader.size == ((48, 64) if angle == 180 else (64, 48))
    frame = next(iter(reader))
    assert tuple(frame.shape[1:]) == reader.size
    right, bottom = {90: (True, False), 180: (True, True), 270: (False, True)}[angle]
    corner = frame[:, -8:, :] if bottom else frame[:, :8, :]
    corner = corner[:, :, -8:] if right else corner[:, :, :8]
    assert level(corner) > 0.6


def test_uneven_frames_have_their_times_and_an_average_rate(tmp_path):
    path = uneven(tmp_path / "uneven.mp4", (0, 100, 150, 500, 1000))
    reader = open_video(path)
    times = [time for time, _ in reader.timed_frames()]
    assert times == pytest.approx([0, 0.1, 0.15, 0.5, 1.0], abs=2e-3)
    assert 3 < reader.fps < 10


def test_resampling_shows_what_was_on_screen(tmp_path):
    path = uneven(tmp_path / "uneven.mp4", (0, 100, 150, 500, 1000))
    levels = [round((level(frame) + 1) * 127.5) for frame in open_video(path, fps=10, stop=1.0)]
    shown = [round((value - 20) / 40) for value in levels]
    #                  0  .1 .2 .3 .4 .5 .6 .7 .8 .9 seconds
    assert shown == [0, 1, 2, 2, 2, 3, 3, 3, 3, 3]


def test_constant_rate_by_hand():
    timed = [(0.0, "a"), (0.5, "b"), (0.75, "c")]
    assert [name for _, name in at_constant_rate(timed, Fraction(4))] == ["a", "a", "b", "c"]
    assert [name for _, name in at_constant_rate(timed, Fraction(2))] == ["a", "b"]
    assert [name for _, name in at_constant_rate(timed[:2], Fraction(4), start=0.25, end=0.75)] == ["a", "b"]
    assert [name for _, name in at_constant_rate(timed, Fraction(2), end=1.5)] == ["a", "b", "c"]
    assert list(at_constant_rate([], Fraction(4))) == []


def test_half_the_rate_gives_half_the_frames(ramp):
    reader = open_video(ramp, fps=6)
    assert reader.fps == 6 and reader.num_frames == 6 and len(list(reader)) == 6


def test_a_part_of_a_video(ramp):
    reader = open_video(ramp, start=0.5, stop=0.75)
    frames = list(reader)
    assert len(frames) == reader.num_frames == 3
    assert level(frames[0]) == pytest.approx(-0.9 + 0.15 * 6, abs=0.03)
    capped = open_video(ramp, max_frames=2)
    assert len(list(capped)) == capped.num_frames == 2


def test_a_video_of_one_frame(tmp_path):
    path = tmp_path / "one.mp4"
    write_video(path, [grey(0.25)], 25)
    reader = open_video(path)
    assert reader.num_frames == 1 and reader.fps > 0
    assert len(list(reader)) == 1 and len(list(open_video(path, fps=10))) == 1


def test_sound_alone_is_refused(tmp_path):
    path = tmp_path / "sound.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(
        ValueError, match=r"'sound.m4a' has no pictures in it \(found: audio\); choose a video file"
    ):
        open_video(path)


def test_files_that_are_no_video_are_refused(tmp_path, ramp):
    with pytest.raises(FileNotFoundError, match="there is no video at 'missing.mp4'; check the path"):
        open_video(tmp_path / "missing.mp4")
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    with pytest.raises(ValueError, match="'notes.mp4' cannot be read as a video .*export it again as mp4"):
        open_video(text)
    half = tmp_path / "half.mp4"
    half.write_bytes(ramp.read_bytes()[:500])
    with pytest.raises(ValueError, match="'half.mp4' cannot be read as a video"):
        open_video(half)
    with pytest.raises(ValueError, match="the given data cannot be read as a video"):
        open_video(io.BytesIO(b"1234" * 100))
    empty = tmp_path / "empty.webp"
    empty.write_bytes(b"RIFF\0\0\0\0WEBP")
    with pytest.raises(ValueError, match="'empty.webp' cannot be read as an animation"):
        open_video(empty)


def noise(path: Path, count: int) -> Path:
    generator = torch.Generator().manual_seed(0)
    write_video(path, (torch.rand(3, 48, 64, generator=generator) * 2 - 1 for _ in range(count)), 30)
    return path


def test_a_video_cut_off_in_the_middle_gives_the_frames_before(tmp_path):
    path = noise(tmp_path / "cut.mkv", 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 5 < sum(1 for _ in open_video(path)) < 60


def test_a_scratched_video_gives_the_other_frames_and_a_warning(tmp_path, caplog):
    path = noise(tmp_path / "scratched.mp4", 60)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "magicportrait"):
        times = [time for time, _ in open_video(path).timed_frames()]
    assert len(times) > 30 and times == sorted(times) and times[-1] > 1.5
    assert "'scratched.mp4' is damaged" in caplog.text or len(times) == 60


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"fps": 0}, "fps=0; expected a rate above 0"),
        ({"start": 2.0, "stop": 1.0}, "range 2 s to 1 s is empty"),
        ({"max_frames": 0}, "max_frames=0; expected 1 or more"),
        ({"start": 90.0}, r"'ramp.mp4' has no frame between 90 s and inf s; choose a range inside the video"),
    ],
)
def test_ranges_that_make_no_sense(ramp, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        list(open_video(ramp, **arguments))


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animations_keep_the_time_of_each_frame(tmp_path, suffix):
    path = tmp_path / f"moving.{suffix}"
    pictures = [Image.new("RGB", (20, 10), (value, value, value)) for value in (0, 120, 240)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[100, 300, 100], loop=0)
    reader = open_video(path)
    assert (reader.size, reader.num_frames, reader.fps) == ((10, 20), 3, 6)
    assert [time for time, _ in reader.timed_frames()] == pytest.approx([0, 0.1, 0.4])
    shown = [round((level(frame) + 1) * 127.5 / 120) for frame in open_video(path, fps=10)]
    assert shown == [0, 1, 1, 1, 2]
    assert len(list(open_video(io.BytesIO(path.read_bytes()), start=0.15))) == 2


def test_a_real_animation(package_file):
    name = "comfyui_workflow_templates_media_video/templates/video_wan2_2_14B_t2v-1.webp"
    reader = open_video(package_file(name), max_frames=3)
    assert reader.size == (350, 350) and len(list(reader)) == 3
