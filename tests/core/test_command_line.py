"""Whole renders from the command line, with a toy model on a real face, and what is said when one fails."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.toy_model import TOY, write_model
from safetensors.torch import save_file
from sd_vae import random_vae

from magicportrait_core import progress_bars
from magicportrait_core.autoencoder import Autoencoder
from magicportrait_core.checkpoints.loading import load_model
from magicportrait_core.command_line import main
from magicportrait_core.media.image import save_image
from magicportrait_core.media.video import open_video
from magicportrait_core.media.video_writing import write_video
from magicportrait_core.text import read_embedding

FRAMES, STEPS = 14, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory, astronaut) -> Path:
    """A portrait, a driving video with sound, a model, a VAE and an embedding of the prompt."""
    folder = tmp_path_factory.mktemp("command_line")
    face = astronaut[:, :240, 110:350]
    save_image(face, folder / "portrait.png")
    write_tone(folder / "tone.wav")
    moving = (astronaut[:, i : 240 + i, 110 + 2 * i : 350 + 2 * i] for i in range(FRAMES))
    write_video(folder / "driving.mp4", moving, 12.5, folder / "tone.wav")
    write_model(folder / "model")
    save_file(random_vae(), folder / "vae.safetensors")
    text = torch.randn(1, 77, TOY.unet.text_dim, generator=torch.Generator().manual_seed(0))
    save_file({"text": text}, folder / "text.safetensors")
    return folder


def write_tone(path: Path, rate: int = 16000) -> None:
    """Three seconds of 440 Hz."""
    samples = (np.sin(np.arange(3 * rate) * 2 * np.pi * 440 / rate) * 8000).astype(np.int16)[None]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def reenact(folder: Path, output: Path, *more: str) -> int:
    files = {"portrait": "portrait.png", "driving": "driving.mp4", "model": "model", "vae": "vae.safetensors"}
    given = [part for name, file in files.items() for part in (f"--{name}", str(folder / file))]
    given += ["--text", str(folder / "text.safetensors"), "--output", str(output)]
    given += ["--size", "128", "--steps", str(STEPS), "--device", "cpu"]
    return main(["reenact", *given, *more])


def test_a_render_has_the_drivers_pace_and_sound_and_goes_on_after_ctrl_c(
    folder, tmp_path, monkeypatch, capsys
):
    whole, resumed = tmp_path / "whole.mp4", tmp_path / "resumed.mp4"
    assert reenact(folder, whole) == 0
    said = capsys.readouterr()
    assert f"{FRAMES} frames, 12.5 fps" in said.out and "Sampling windows ..." in said.err
    video = open_video(whole)
    frames = torch.stack(list(video))
    assert frames.shape == (FRAMES, 3, 128, 128) and video.fps == 12.5
    with av.open(str(whole)) as container:
        sound = sum(frame.samples for frame in container.decode(container.streams.audio[0]))
    assert sound == pytest.approx(FRAMES / 12.5 * 48000, rel=0.1)

    sampled = []

    def watch(bars, stage: str, done: int, total: int) -> None:
        if stage == "sample":
            sampled.append(done)
            if done == 3 and sampled.count(0) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(progress_bars.ProgressBars, "__call__", watch)
    assert reenact(folder, resumed) == 130
    assert "run the same command again to go on" in capsys.readouterr().err
    assert not resumed.exists()
    assert reenact(folder, resumed, "--seed", "1") == 1
    assert "is the state of another render" in capsys.readouterr().err
    assert reenact(folder, resumed) == 0
    assert sampled == [0, 1, 2, 3, 0, 0, *range(4, sampled[-1] + 1)]
    assert torch.equal(torch.stack(list(open_video(resumed))), frames)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resumed.mp4", "whole.mp4"]


def test_the_seed_and_the_maps_matter(folder, tmp_path):
    def first_frame(*more: str) -> torch.Tensor:
        assert reenact(folder, tmp_path / "out.mp4", "--frames", "1", "--steps", "1", *more) == 0
        return next(iter(open_video(tmp_path / "out.mp4")))

    base = first_frame()
    assert not torch.equal(base, first_frame("--seed", "1"))
    assert not torch.equal(base, first_frame("--map", "depth=0"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--portrait", "none.png"), "there is no picture at 'none.png'"),
        (("--driving", "none.mp4"), "there is no video at 'none.mp4'"),
        (("--vae", "none.safetensors"), "there is no file none.safetensors"),
        (("--output", "out.gif"), "'out.gif' does not end in .mp4, .mov, .mkv"),
        (("--output", "no/folder/out.mp4"), "there is no folder no/folder"),
        (("--head", "none.pkl"), "no head file at none.pkl"),
        (("--device", "tpu"), "device 'tpu' is not here; this machine has"),
        (("--motion", "nose=1"), "--motion nose: expected one of strength, head"),
        (("--motion", "jaw=7"), "strength jaw=7.0; expected 0"),
        (("--map", "flow=1"), "strength of 'flow': the model has the maps depth, normal, render"),
        (("--steps", "0"), "steps=0; expected 1 to 1000"),
        (("--seed", "-1"), "seed=-1; expected 0"),
        (("--guidance-scale", "-2"), "guidance_scale=-2; expected 0"),
        (("--overlap", "12"), "overlap of 12; expected"),
        (("--window-frames", "33"), "window_frames=33; expected 1 to 32"),
        (("--windows-per-batch", "-1"), "windows_per_batch=-1; expected at least 1"),
        (("--save-every", "0"), "state saved every 0 steps; expected at least 1"),
        (("--size", "50"), "size=50; expected a shorter side of 64 to 4096"),
        (("--fps", "-3"), "fps=-3; expected a rate above 0"),
        (("--frames", "0"), "max_frames=0; expected 1 or more"),
    ],
)
def test_bad_input_is_said_in_one_sentence(folder, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert reenact(folder, tmp_path / "out.mp4", *arguments) == 1
    said = capsys.readouterr().err.replace("Loading the model ...\n", "").strip().splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and message in said[0]
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_names_what_to_change(folder, tmp_path, monkeypatch, capsys):
    def encode(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.\nMany more lines.")

    monkeypatch.setattr(Autoencoder, "encode", encode)
    assert reenact(folder, tmp_path / "out.mp4", "--frames", "1") == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: CUDA out of memory. Tried to allocate 3.00 GiB; choose a smaller --size")
    assert list(tmp_path.iterdir()) == []


def test_a_portrait_without_a_face_and_a_model_without_text(folder, tmp_path, capsys):
    save_image(torch.zeros(3, 200, 200), tmp_path / "black.png")
    assert reenact(folder, tmp_path / "out.mp4", "--portrait", str(tmp_path / "black.png")) == 1
    assert "no face" in capsys.readouterr().err
    given = ["--portrait", "portrait.png", "--driving", "driving.mp4", "--model", "model", "--vae"]
    given = [str(folder / part) if not part.startswith("--") else part for part in given]
    given += [str(folder / "vae.safetensors"), "--output", str(tmp_path / "out.mp4")]
    assert main(["reenact", *given]) == 1
    assert "model holds no text embedding; give --clip" in capsys.readouterr().err


def test_a_converted_model_brings_its_text_along_and_files_are_listed(folder, tmp_path, capsys):
    converted = tmp_path / "converted"
    convert = ["convert", "--model", str(folder / "model"), "--output", str(converted), "--dtype", "bf16"]
    assert main([*convert, "--text", str(folder / "text.safetensors")]) == 0
    assert f"{converted / 'denoising_unet.safetensors'}\n" in capsys.readouterr().out
    model = load_model(converted)
    assert model.dtype == torch.bfloat16
    assert torch.equal(model.text, read_embedding(folder / "text.safetensors"))
    assert main(convert) == 1
    assert "error: " in capsys.readouterr().err

    assert main(["files", "--model", str(converted)]) == 0
    assert capsys.readouterr().out.endswith("is complete\n")
    (converted / "appearance_net.safetensors").unlink()
    assert main(["files", "--model", str(converted)]) == 1
    assert "appearance_net           missing: appearance_net.safetensors\n" in capsys.readouterr().out
