"""prepare_data as users run it: what is kept, resumed, refused and said."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from face_videos import moving_face, no_face, save_animation, save_mp4
from golden_model import GOLDEN
from released_files import write_released_files

from magicportrait_core.autoencoder import load_vae
from magicportrait_core.media.image import from_levels
from magicportrait_core.tracking.track_file import load_track
from training.clip_store import ClipStore, verify
from training.prepare_data import main

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--for", "small", "--size", "64", "--min-frames", "4", "--clip-frames", "6")


def prepare(videos: Path, output: Path, *options: str) -> int:
    return main(["--videos", str(videos), "--output", str(output), *options])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, Path, int]:
    """Videos good and bad, the folder they were prepared into, and the exit code."""
    folder = tmp_path_factory.mktemp("prepared")
    videos = folder / "videos"
    (videos / "more").mkdir(parents=True)
    save_mp4(videos / "cut.mp4", [*moving_face(5), *no_face(3), *moving_face(5, step=-2.0)])
    save_animation(videos / "more" / "face.webp", moving_face(4))
    save_mp4(videos / "coffee.mp4", no_face(4))
    whole = save_mp4(folder / "whole.mp4", moving_face(8)).read_bytes()
    (videos / "cut short.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "text.mp4").write_text("this is no video")
    save_mp4(videos / "still.mp4", [moving_face(1)[0]] * 5)
    return videos, folder / "out", prepare(videos, folder / "out", *SMALL)


def test_good_shots_are_kept_and_bad_videos_do_not_stop_the_rest(prepared, capsys):
    videos, output, code = prepared
    assert code == 3
    store = ClipStore(output)
    assert [(info.name, info.frames) for info in store] == [
        ("cut.mp4-000000", 4),
        ("cut.mp4-000008", 4),
        ("more_face.webp-000000", 3),
    ]  # one frame of each is the still picture
    assert store.clips[0].notes["video"] == "cut.mp4" and store.clips[0].notes["frames"] == "0-4"
    assert [info.fps for info in store] == [12, 12, 10]
    assert verify(output) == []
    clip = store.read(0)
    assert clip.size == (64, 64) and clip.reference is not None
    track = load_track(output / "tracks" / "cut.mp4-000000.safetensors")
    assert track.num_frames == 4 and track.size == (64, 64)
    assert load_track(output / "tracks" / "cut.mp4-000000.reference.safetensors").num_frames == 1
    capsys.readouterr()
    assert prepare(videos, output, *SMALL) == 3  # nothing is left to do
    assert "6 of 6 videos are done already" in capsys.readouterr().out


def test_the_report_says_what_was_dropped_and_why(prepared):
    _, output, _ = prepared
    report = json.loads((output / "report.json").read_text())
    assert report["videos_found"] == report["videos_done"] == 6
    assert (report["clips_kept"], report["frames_kept"]) == (3, 14)
    assert report["dropped"] == {"no face": 2, "hardly moves": 1}
    errors = {video["shown"]: video["error"] for video in report["videos"] if video["error"]}
    assert errors.keys() == {"coffee.mp4", "cut short.mp4", "text.mp4"}
    assert errors["coffee.mp4"] == "no face was found in it"
    assert "text.mp4" in errors["text.mp4"] and "\n" not in errors["text.mp4"]
    page = (output / "report.html").read_text()
    assert page.count("<figure>") == 6 and page.count("data:image/jpeg;base64,") == 6
    for words in ("hardly moves", "no face was found in", "cut short.mp4", "frames 8 to 12", "Rows: frames"):
        assert words in page
    assert "http" not in page  # self-contained


def test_render_maps_latents_and_jpeg(tmp_path):
    """What SD 1.5 reads: the photo on the head, and the VAE's latents of the stored pictures."""
    vae = golden_vae(tmp_path / "vae")
    video = save_mp4(tmp_path / "face.mp4", moving_face(4))
    options = ("--size", "64", "--min-frames", "4", "--encoding", "jpeg", "--vae", str(vae))
    assert prepare(video, tmp_path / "out", *options) == 0
    store = ClipStore(tmp_path / "out")
    (info,) = store
    assert info.maps == ("depth", "normal", "render", "normal_left") and not info.reference
    clip = store.read(0)
    assert clip.frames.shape == (4, 3, 64, 64) and clip.reference is None
    assert clip.latents.shape == (4, 4, 8, 8) and clip.latents.dtype == torch.float16
    # JPEG changes the pictures after the latents were made from them, but little.
    own = load_vae(vae).encode(from_levels(clip.frames.movedim(1, -1))) * 0.18215
    assert (own - clip.latents.float()).abs().mean() < 0.15 * own.abs().mean()
    skin = (clip.maps["depth"] > 200).expand(-1, 3, -1, -1)  # the nearest parts: the middle of the face
    assert (clip.maps["render"].float() - clip.frames.float())[skin].abs().mean() < 25


def test_deca_and_smirk_track_where_their_files_are_given(tmp_path):
    """Stand-ins under the published names: what they say is one face looking ahead in FLAME's terms."""
    files = write_released_files(tmp_path / "released").arguments()
    video = save_mp4(tmp_path / "face.mp4", moving_face(4))
    options = ["--size", "64", "--min-frames", "4"]
    for name in ("flame", "deca", "smirk", "texture"):
        options += [f"--{name}", str(files[name])]
    assert prepare(video, tmp_path / "out", *options) == 0
    track = load_track(tmp_path / "out" / "tracks" / "face.mp4-000000.safetensors")
    assert track.head == "flame2020" and track.num_frames == 4 and track.size == (64, 64)
    assert track.texture is not None and bool(track.found.all())
    clip = ClipStore(tmp_path / "out").read(0)
    assert (clip.maps["depth"] > 0).float().mean() > 0.05
    shutil.rmtree(tmp_path / "released")  # 250 MB


def golden_vae(folder: Path) -> Path:
    folder.mkdir()
    (folder / "diffusion_pytorch_model.safetensors").write_bytes((GOLDEN / "vae.safetensors").read_bytes())
    config = {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [8, 8, 8, 8],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_killed_run_goes_on_and_gives_the_same_clips(prepared, tmp_path):
    """Killed after its first video; then two processes do the rest."""
    all_videos, output, _ = prepared
    videos = tmp_path / "videos"
    shutil.copytree(all_videos, videos, ignore=lambda *_: ["coffee.mp4", "cut short.mp4", "still.mp4"])
    command = [sys.executable, "-m", "training.prepare_data", *SMALL]
    command += ["--videos", str(videos), "--output", str(tmp_path / "out")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "out" / "videos").glob("*.json")):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    done = [path.name for path in (tmp_path / "out" / "videos").glob("*.json")]
    again = subprocess.run(
        [*command, "--workers", "2"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400
    )
    assert again.returncode == 3, again.stderr
    assert f"{len(done)} of 3 videos are done already" in again.stdout and len(done) < 3
    first, second = ClipStore(output), ClipStore(tmp_path / "out")
    assert [info.name for info in first] == [info.name for info in second]
    for number in range(len(first)):
        one, two = first.read(number), second.read(number)
        assert torch.equal(one.frames, two.frames) and torch.equal(one.reference, two.reference)
        assert all(np.array_equal(one.maps[name], two.maps[name]) for name in one.maps)
    assert not list((tmp_path / "out").glob(".*.part"))


def test_changed_options_are_refused(prepared, capsys):
    videos, output, _ = prepared
    assert prepare(videos, output, *SMALL, "--max-error", "2") == 1
    assert "was begun with --max-error 3.0, now it is 2.0; give the same" in capsys.readouterr().err


def test_a_folder_without_a_face_is_an_error(tmp_path, capsys):
    save_mp4(tmp_path / "coffee.mp4", no_face(4))
    assert prepare(tmp_path, tmp_path / "out", *SMALL) == 1
    shown = capsys.readouterr()
    assert "coffee.mp4: no face was found in it" in shown.out
    assert shown.err.startswith("error: no clip was kept; ") and (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "holds nothing; expected"),
        (("--size", "100"), "size=100; expected a multiple of 8"),
        (("--maps", "depth,hair"), "maps=depth,hair; expected some of depth"),
        (("--vae", "nowhere.safetensors"), "there is no file nowhere.safetensors, given as --vae"),
        (("--workers", "0"), "workers=0; expected 1 or more"),
        (("--device", "abacus"), "device 'abacus' is not here"),
    ],
)
def test_bad_arguments_are_one_sentence(tmp_path, capsys, options, sentence):
    (tmp_path / "videos").mkdir()
    assert prepare(tmp_path / "videos", tmp_path / "out", *options) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and sentence in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_full_disk_stops_the_run_and_keeps_what_is_done(tmp_path, capsys, monkeypatch):
    for name in ("a.mp4", "b.mp4"):
        save_mp4(tmp_path / name, moving_face(4))
    calls, fsync = [], os.fsync

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 3:  # a shard, its folder, the index; then the disk is full
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    assert prepare(tmp_path, tmp_path / "out", *SMALL) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said and "free some space" in said and said.count("\n") == 1
    monkeypatch.undo()
    assert prepare(tmp_path, tmp_path / "out", *SMALL) == 0
    assert [info.name for info in ClipStore(tmp_path / "out")] == ["a.mp4-000000", "b.mp4-000000"]


def test_ctrl_c_keeps_what_is_done(tmp_path, capsys, monkeypatch):
    from training.preparation import station

    save_mp4(tmp_path / "a.mp4", [*moving_face(4), *no_face(2), *moving_face(4, step=-2.0)])
    make, calls = station.make_clip, []

    def stop_at_second(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return make(*arguments)

    monkeypatch.setattr(station, "make_clip", stop_at_second)
    assert prepare(tmp_path, tmp_path / "out", *SMALL) == 130
    assert "give the same command again to go on" in capsys.readouterr().err
    assert [info.name for info in ClipStore(tmp_path / "out")] == ["a.mp4-000000"]
    assert prepare(tmp_path, tmp_path / "out", *SMALL) == 0
    assert len(calls) == 3  # the finished clip was not made again
    assert len(ClipStore(tmp_path / "out")) == 2
