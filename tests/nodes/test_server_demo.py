"""scripts/demo.py in the host's own Python: what it leaves behind and what it says."""

import io
import os
import subprocess
import sys
from pathlib import Path

import demo
from comfy_client import Event
from demo_pictures import read_video
from PIL import Image

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
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_demo_leaves_videos_a_sheet_and_a_report(comfyui, tmp_path):
    run = run_demo(comfyui, tmp_path, "--frames", str(FRAMES))
    assert run.returncode == 0, run.stdout + run.stderr
    results = tmp_path / "results"
    assert len(list(read_video(results / "portrait_moves.mp4"))) == FRAMES
    frames = list(read_video(results / "side_by_side.mp4"))
    assert len(frames) == FRAMES and frames[0].shape == (820, 1152, 3)  # two rows of three panels with labels
    assert Image.open(results / "contact_sheet.png").width == 6 * 256
    report = (results / "report.txt").read_text(encoding="utf-8")
    assert f"{FRAMES} frames" in report and "Move the portrait" in report and "Time" in report
    assert str(results / "side_by_side.mp4") in run.stdout


def test_demo_refuses_what_is_not_there_in_one_sentence(comfyui, tmp_path):
    for option in ("--portrait", "--driver"):
        run = run_demo(comfyui, tmp_path, option, str(tmp_path / "missing.png"))
        assert run.returncode == 1
        assert run.stderr.strip() == f"error: {tmp_path / 'missing.png'} does not exist."


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
