"""Writing video: sizes, sound, and nothing left behind when it fails."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from magicportrait_core.media.video import open_video, write_video
from magicportrait_core.media.video_writing import has_sound

RATE = 48_000


def frames(count: int, size: tuple[int, int] = (48, 64)):
    return (torch.full((3, *size), 0.1 * k) for k in range(count))


@pytest.fixture
def tone(tmp_path):
    """Two seconds: silence, then a tone."""
    path = tmp_path / "tone.wav"
    samples = np.sin(np.arange(RATE * 2) * 2 * np.pi * 440 / RATE) * (np.arange(RATE * 2) > RATE) * 0.5
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        data = (samples * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(data, format="s16", layout="mono")
        frame.rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def sound_of(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([f.to_ndarray()[0] for f in container.decode(container.streams.audio[0])])


def test_it_plays_everywhere(tmp_path):
    path = tmp_path / "plain.mp4"
    assert write_video(path, frames(5), Fraction(30000, 1001)) == 5
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == Fraction(30000, 1001)
    assert not has_sound(path)


@pytest.mark.parametrize("size", [(47, 63), (48, 63), (47, 64), (1, 1), (2, 3)])
def test_odd_sizes_gain_a_row_or_column(tmp_path, size):
    path = tmp_path / "odd.mp4"
    write_video(path, frames(3, size), 25)
    assert open_video(path).size == (size[0] + size[0] % 2, size[1] + size[1] % 2)


def test_sound_is_cut_to_the_pictures(tmp_path, tone):
    path = tmp_path / "with_sound.mp4"
    write_video(path, frames(25), 25, audio=tone)
    assert has_sound(path)
    assert len(sound_of(path)) == pytest.approx(RATE, abs=2048)
    assert np.abs(sound_of(path)[: RATE // 2]).max() < 0.01
    write_video(path, frames(25), 25, audio=tone, audio_start=1.0)
    assert np.abs(sound_of(path)[RATE // 4 : RATE // 2]).max() > 0.3


def test_sound_shorter_than_the_pictures_ends_earlier(tmp_path, tone):
    path = tmp_path / "longer.mp4"
    write_video(path, frames(75), 25, audio=tone)
    assert len(sound_of(path)) == pytest.approx(2 * RATE, abs=2048) and len(list(open_video(path))) == 75


def test_sound_and_pictures_lie_beside_each_other_in_the_file(tmp_path, tone):
    path = tmp_path / "interleaved.mp4"
    write_video(path, frames(50), 25, audio=tone)
    with av.open(str(path)) as container:
        places = {"video": [], "audio": []}
        for packet in container.demux():
            if packet.size:
                places[packet.stream.type].append(packet.pos)
    assert min(places["audio"]) < max(places["video"]) * 0.9


def test_a_source_without_sound_gives_a_silent_video(tmp_path):
    silent, path = tmp_path / "silent.mp4", tmp_path / "out.mp4"
    write_video(silent, frames(3), 25)
    write_video(path, frames(3), 25, audio=silent)
    assert not has_sound(path)


def test_a_failure_leaves_no_file_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "video.mp4"
    write_video(path, frames(3), 25)
    before = path.read_bytes()

    def failing():
        yield torch.zeros(3, 48, 64)
        raise RuntimeError("cancelled")

    with pytest.raises(RuntimeError, match="cancelled"):
        write_video(path, failing(), 25)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["video.mp4"]


@pytest.mark.parametrize(
    ("name", "pictures", "fps", "sentence"),
    [
        ("none.mp4", [], 25, "there are no frames to write to 'none.mp4'"),
        ("a.avi", [torch.zeros(3, 4, 4)], 25, "'a.avi' does not end in .mp4"),
        ("a.mp4", [torch.zeros(3, 4, 4)], 0, "fps=0; expected a rate above 0"),
        ("a.mp4", [torch.zeros(3, 4, 4), torch.zeros(3, 4, 8)], 25, "frame 1 is 8x4, the first was 4x4"),
        ("a.mp4", [torch.zeros(4, 4)], 25, r"frame is \(4, 4\); expected \(3, H, W\)"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, name, pictures, fps, sentence):
    with pytest.raises(ValueError, match=sentence):
        write_video(tmp_path / name, pictures, fps)
    assert list(tmp_path.iterdir()) == []
