"""Whole renders without networks, which is the command's default, and with a warp-preconditioned model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.toy_model import write_small_model
from safetensors.torch import save_file
from sd_vae import random_vae

from magicportrait_core import built_in, progress_bars
from magicportrait_core.alignment import align
from magicportrait_core.checkpoints.loading import load_model
from magicportrait_core.command_line import main
from magicportrait_core.head.assets import load_head
from magicportrait_core.media.image import load_image, save_image
from magicportrait_core.media.video import open_video
from magicportrait_core.media.video_writing import write_video
from magicportrait_core.pipeline import preview, reenact
from magicportrait_core.render_options import ReenactOptions
from magicportrait_core.tracking.tracker import track_face, track_portrait
from magicportrait_core.warp import prepare_warp, warp_clip
from magicportrait_core.warped_portrait import record_warp

FRAMES = 4
SMALL = ("--model", "small")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, astronaut) -> Path:
    """A portrait with a smaller face, a driving video, models before and after training."""
    folder = tmp_path_factory.mktemp("small")
    save_image(astronaut[:, :300, 60:400], folder / "portrait.png")
    face = (astronaut[:, i : 240 + i, 110 + 2 * i : 350 + 2 * i] for i in range(0, 4 * FRAMES, 4))
    write_video(folder / "driving.mp4", face, 12.5)
    write_small_model(folder / "fresh", untrained=True)
    write_small_model(folder / "trained")
    return folder


def test_before_training_a_reenactment_is_the_warp_bit_for_bit(folder, landmarker, tmp_path):
    portrait, video = load_image(folder / "portrait.png"), open_video(folder / "driving.mp4")
    model, head, stages = load_model(folder / "fresh"), load_head(), []
    options = ReenactOptions(features_file=tmp_path / "features")
    result = reenact(
        portrait, video, model, options=options, on_progress=lambda stage, *_: stages.append(stage)
    )
    frames = torch.stack(list(result.frames))
    assert list(dict.fromkeys(stages)) == ["track", "fit", "warp", "guidance", "sample", "decode"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features", "features.warp"]

    track = track_portrait(portrait, landmarker, head)
    driving = track_face(video, landmarker, head, float(video.fps))
    warped = record_warp(prepare_warp(head, portrait, track), align(track, driving, head=head).track)
    assert torch.equal(frames, warped.warp_levels / 127.5 - 1)
    assert frames.shape == (FRAMES, 3, 300, 340)
    assert (frames[-1] - portrait).abs().max() > 0.1  # it moved


def run(folder: Path, output: Path, *more: str) -> int:
    given = ["--portrait", str(folder / "portrait.png"), "--driving", str(folder / "driving.mp4")]
    return main(["reenact", *given, "--output", str(output), "--device", "cpu", *more])


def test_the_preview_is_the_warp_bit_for_bit(folder, landmarker):
    portrait, video, head, told = (
        load_image(folder / "portrait.png"),
        open_video(folder / "driving.mp4"),
        load_head(),
        [],
    )
    result = preview(portrait, video, on_progress=lambda *now: told.append(now))
    frames = torch.stack(list(result.frames))
    track = track_portrait(portrait, landmarker, head)
    aligned = align(track, track_face(video, landmarker, head, float(video.fps)), head=head)
    expected = [frame.image for frame in warp_clip(prepare_warp(head, portrait, track), aligned.track)]
    assert torch.equal(frames, torch.stack(expected)) and frames.shape == (FRAMES, 3, 300, 340)
    assert (result.num_frames, result.fps, result.warnings) == (FRAMES, 12.5, aligned.warnings)
    assert list(dict.fromkeys(stage for stage, *_ in told)) == ["track", "fit", "warp"]
    assert told[-1] == ("warp", FRAMES, FRAMES)


def test_the_command_needs_no_diffusers(folder, tmp_path):
    """By itself it moves the photo; with --model small it says what is missing."""
    code = "import sys; sys.modules['diffusers'] = None\n"
    code += "import importlib.metadata as packages\n"
    code += "def version(name, known=packages.version):\n"
    code += "    if name == 'diffusers': raise packages.PackageNotFoundError(name)\n"
    code += "    return known(name)\n"
    code += "packages.version = version\n"
    code += "from magicportrait_core.command_line import main\nsys.exit(main(sys.argv[1:]))"
    files = ["--portrait", str(folder / "portrait.png"), "--driving", str(folder / "driving.mp4")]
    command = [sys.executable, "-c", code, "reenact", *files, "--output", str(tmp_path / "out.mp4")]
    done = subprocess.run([*command, "--output-size", "200"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{FRAMES} frames, 12.5 fps" in done.stdout and "Warping the photo ..." in done.stderr
    assert torch.stack(list(open_video(tmp_path / "out.mp4"))).shape == (FRAMES, 3, 200, 226)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    done = subprocess.run([*command, "--model", "small"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "need the package diffusers, which is not installed" in done.stderr


def test_what_only_networks_understand_is_refused_without_them(folder, tmp_path, capsys):
    assert run(folder, tmp_path / "out.mp4", "--steps", "2") == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "error: --steps is for networks and --model preview has none; choose --model small"
    )
    assert run(folder, tmp_path / "out.mp4", "--map", "depth=0") == 1
    assert "error: --map is for networks" in capsys.readouterr().err


def test_the_command_needs_no_other_files_and_goes_on_after_ctrl_c(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(built_in, "_FOLDER", folder / "trained")
    assert run(folder, tmp_path / "out.mp4", *SMALL, "--output-size", "200") == 0
    said = capsys.readouterr()
    assert f"{FRAMES} frames, 12.5 fps" in said.out and "Warping the photo ..." in said.err
    frames = torch.stack(list(open_video(tmp_path / "out.mp4")))
    assert frames.shape == (FRAMES, 3, 200, 226)

    def stop(bars, stage: str, done: int, total: int) -> None:
        if stage == "sample" and done == 1:
            raise KeyboardInterrupt

    whole = progress_bars.ProgressBars.__call__
    monkeypatch.setattr(progress_bars.ProgressBars, "__call__", stop)
    again = [*SMALL, "--output-size", "200", "--steps", "2"]
    assert run(folder, tmp_path / "again.mp4", *again) == 130
    assert "run the same command again to go on" in capsys.readouterr().err
    monkeypatch.setattr(progress_bars.ProgressBars, "__call__", whole)
    assert run(folder, tmp_path / "again.mp4", *again) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.mp4", "out.mp4"]


def test_a_vae_is_not_taken_and_a_missing_model_is_told(folder, tmp_path, monkeypatch, capsys):
    save_file(random_vae(), tmp_path / "vae.safetensors")
    model = ("--model", str(folder / "fresh"))
    assert run(folder, tmp_path / "out.mp4", *model, "--vae", str(tmp_path / "vae.safetensors")) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: the model 'toy_small' works on unshuffled pixels of 4x4 and takes no VAE")
    assert run(folder, tmp_path / "out.mp4", *model, "--output-size", "1") == 1
    assert "output_side=1; expected 2 to 4096 pixels" in capsys.readouterr().err
    monkeypatch.setattr(built_in, "_FOLDER", tmp_path / "nothing")
    assert run(folder, tmp_path / "out.mp4", *SMALL) == 1
    assert "error: the built-in model is not in this copy of the package" in capsys.readouterr().err
    assert main(["files"]) == 1
    assert "the built-in model is not in this copy" in capsys.readouterr().err
