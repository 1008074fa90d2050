"""scripts/demo.py in the host's own Python: what it leaves behind and what it says."""

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path

import demo
import numpy as np
import pytest
import torch
from comfy_client import Event
from demo_pictures import LABEL_HEIGHT, PictureError, read_video
from demo_results import GEOMETRY, NETWORKS
from PIL import Image

from magicportrait_core.checkpoints.writing import write_network
from magicportrait_core.models.config import SMALL
from magicportrait_core.models.initial import new_networks

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 4


def run_demo(comfyui: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        demo.INSIDE: "1",
        "COMFYUI_PATH": str(comfyui),
        "MAGICPORTRAIT_CACHE": str(folder),
    }
    command = [
        sys.executable,
        str(ROOT / "scripts" / "demo.py"),
        "--output",
        str(folder / "results"),
        *arguments,
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def untrained_model(tmp_path_factory) -> Path:
    """A small model as it is before its training: what it gives is the flow preview."""
    folder = tmp_path_factory.mktemp("model")
    networks = new_networks(SMALL)
    parts = {"denoising_unet": networks.denoising_unet, "appearance_net": networks.appearance_net}
    parts |= {f"guidance_encoder_{name}": networks.guidance_encoders[name] for name in SMALL.maps}
    for role, network in parts.items():
        text = torch.zeros(1, 1, SMALL.unet.text_dim) if role == "denoising_unet" else None
        write_network(folder / f"{role}.safetensors", network, role, SMALL, {}, text=text)
    return folder


def test_demo_shows_a_model_beside_geometry_and_says_what_it_changed(comfyui, tmp_path, untrained_model):
    run = run_demo(comfyui, tmp_path, "--frames", str(FRAMES), "--model", str(untrained_model))
    assert run.returncode == 0, run.stdout + run.stderr
    results = tmp_path / "results"
    assert len(list(read_video(results / "portrait_moves.mp4"))) == FRAMES
    frames = list(read_video(results / "side_by_side.mp4"))
    assert len(frames) == FRAMES and frames[0].shape == (820, 1152, 3)  # two rows of three panels with labels
    preview, result = frames[-1][410:, 384:768].astype(int), frames[-1][410:, 768:].astype(int)
    assert np.abs(preview - result)[LABEL_HEIGHT:].mean() < 2, "an untrained model changes nothing"
    assert Image.open(results / "contact_sheet.png").width == 6 * 256
    report = (results / "report.txt").read_text(encoding="utf-8")
    assert f"Time, {FRAMES} frames" in report and "Sampler" in report and "ms a frame" in report
    assert "The networks changed 0.0% of the flow preview's pixels" in report
    assert "portrait_moves.mp4 is the diffusion result" in report
    assert "geometry alone" not in run.stdout


def test_the_demos_result_is_the_preview_with_the_built_in_model_beside_it(comfyui, tmp_path):
    run = run_demo(comfyui, tmp_path, "--frames", str(FRAMES))
    assert run.returncode == 0, run.stdout + run.stderr
    results = tmp_path / "results"
    report = (results / "report.txt").read_text(encoding="utf-8")
    there = demo.BUILT_IN.is_file()
    assert ("The networks changed" in report) == ("portrait_moves.mp4 is the flow preview" in report) == there
    assert ("geometry alone" in run.stdout) == ("geometry alone" in report) == (not there)
    assert len(list(read_video(results / "portrait_moves.mp4"))) == FRAMES
    assert "Move the portrait" in report and "Time" in report
    assert str(results / "side_by_side.mp4") in run.stdout


def test_without_the_built_in_model_the_demo_says_so(tmp_path, monkeypatch, capsys):
    missing = tmp_path / "denoising_unet.safetensors"
    monkeypatch.setattr(demo, "BUILT_IN", missing)
    assert demo.chosen_show(argparse.Namespace(model=None)).result == GEOMETRY
    assert f"({missing} is missing): showing geometry alone." in capsys.readouterr().out
    assert demo.chosen_show(argparse.Namespace(model=tmp_path)).result == NETWORKS
    with pytest.raises(PictureError, match="--pictures shows what the diffusion model does"):
        demo.animate(argparse.Namespace(model=None, pictures=True))


def test_demo_refuses_what_is_not_there_in_one_sentence(comfyui, tmp_path):
    for option in ("--portrait", "--driver"):
        run = run_demo(comfyui, tmp_path, option, str(tmp_path / "missing.png"))
        assert run.returncode == 1
        assert run.stderr.strip() == f"error: {tmp_path / 'missing.png'} does not exist."
    run = run_demo(comfyui, tmp_path, "--model", str(tmp_path / "missing"))
    assert run.returncode == 1 and f"{tmp_path / 'missing'} has no model files: name a folder" in run.stderr


def test_progress_shows_share_and_time_left_of_each_node():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    progress = demo.Progress({"7": {"_meta": {"title": "Move the portrait"}}}, out)
    progress(Event("executing", "7", {}, 0.0))
    progress(Event("progress", "7", {"value": 25, "max": 100}, 1.0))
    progress(Event("executing", None, {}, 2.0))
    lines = out.getvalue().replace("\r", "\n").splitlines()
    assert any("Move the portrait" in line and " 25%, 0 s left" in line for line in lines)
    assert lines[-1].rstrip().endswith("0.0 s")
