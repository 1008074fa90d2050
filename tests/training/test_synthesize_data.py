"""The command line: going on where it stopped, and saying what is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch

pytest.importorskip("skimage")

from training import synthesize_data
from training.clip_store import ClipStore
from training.synthesis import workers

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *more: str) -> int:
    usual = ["--frames", "1", "--size", "32", "--workers", "1", "--no-photo-skins"]
    return synthesize_data.main(["--output", str(folder), *usual, *more])


@pytest.fixture(scope="module")
def three_clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    assert run(folder, "--clips", "3") == 0
    return folder


def test_a_stopped_run_goes_on(three_clips, tmp_path, monkeypatch, capsys):
    """Stopped during the second clip the first is kept; run again, the set is that of one go."""
    made = workers.clips_made

    def stopped(workshop, numbers, count):
        yield from made(workshop, numbers[:1], count)
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "clips_made", stopped)
    assert run(tmp_path, "--clips", "3") == 130
    assert "run the same command again" in capsys.readouterr().err
    assert len(ClipStore(tmp_path)) == 1
    monkeypatch.undo()
    assert run(tmp_path, "--clips", "3") == 0
    whole, parts = ClipStore(three_clips), ClipStore(tmp_path)
    assert [clip.name for clip in parts] == [clip.name for clip in whole]
    for number in range(3):
        one, other = whole.read(number), parts.read(number)
        assert torch.equal(one.frames, other.frames)
        assert all(torch.equal(one.maps[name], other.maps[name]) for name in one.maps)


def test_processes_share_the_work_but_the_clips_stay_the_same(three_clips, tmp_path):
    usual = ["--clips", "3", "--frames", "1", "--size", "32", "--no-photo-skins", "--workers", "2"]
    command = [sys.executable, "-m", "training.synthesize_data", "--output", str(tmp_path), *usual]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name = "shard-00000.safetensors"
    assert (tmp_path / name).read_bytes() == (three_clips / name).read_bytes()


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (3,)


def test_a_worker_that_dies_is_said_and_not_waited_for():
    with pytest.raises(OSError, match="ended by itself.* fewer than --workers 2"):
        list(workers.clips_made(Deadly(), [0, 1], 2))


def test_a_set_that_is_complete_is_left_alone(three_clips, capsys):
    before = (three_clips / "index.json").read_bytes()
    assert run(three_clips, "--clips", "3") == 0
    assert "has all 3 clips" in capsys.readouterr().out
    assert (three_clips / "index.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clips", "0"], "--clips 0: expected 1 or more"),
        (["--clips", "1", "--size", "50"], "--size 50: expected a multiple of 16"),
        (["--clips", "1", "--shard-mb", "0"], "--shard-mb 0"),
        (["--clips", "1", "--kind", "round-trip", "--frames", "4"], "a round trip has one target"),
        (["--clips", "1", "--photos", "/nowhere"], "--photos /nowhere is not a folder"),
    ],
)
def test_wrong_options_are_named(tmp_path, capsys, arguments, message):
    assert run(tmp_path / "new", *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_folders_of_others_are_left_alone(three_clips, tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("dear")
    assert run(tmp_path, "--clips", "1") == 1
    assert "holds other files" in capsys.readouterr().err
    assert run(tmp_path / "letter.txt", "--clips", "1") == 1
    assert "is a file" in capsys.readouterr().err
    assert run(three_clips, "--clips", "4", "--size", "64") == 1
    assert "holds clips of 1 frames of 32x32 pixels, asked for are 1 of 64x64" in capsys.readouterr().err


def test_a_full_disk_is_noticed_before_the_work(tmp_path, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    assert run(tmp_path, "--clips", "1000") == 1
    assert "1000 clips need 15 MB" in capsys.readouterr().err


def test_help_is_quick():
    """It does not wait for torch."""
    code = (
        "import sys; from training import synthesize_data as s\n"
        "try: s.main(['--help'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--output FOLDER" in done.stdout
