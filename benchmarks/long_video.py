"""Memory of a real ComfyUI server while it tracks a long video, and how soon it stops when asked to.

    python scripts/host.py run -m benchmarks.long_video [--frames 1000]

The clip is 1920x1080 and shows a photo of a face that wanders about. It runs through the workflow
save_track up to the saved track, so the overlay of every frame is kept; then again, cancelled after the
first preview.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch
from skimage import data
from torch import Tensor

from magicportrait_core.media.image import from_levels, resize
from magicportrait_core.media.video_writing import write_video
from scripts.comfy_client import ComfyClient
from scripts.comfy_server import ComfyServer, local_interpreter
from scripts.host import COMFYUI_VERSION, cache_folder

ROOT = Path(__file__).resolve().parents[1]
FPS, HEIGHT, WIDTH, FACE = 25, 1080, 1920, 700
MIB = 2**20


def wandering_face(frames: int) -> Iterator[Tensor]:  # (3, 1080, 1920) in [-1, 1]
    photo = resize(from_levels(torch.from_numpy(data.astronaut()[:270, 90:360])), (FACE, FACE))
    for frame in range(frames):
        left = 600 + round(400 * math.sin(frame / 40))
        top = 150 + round(100 * math.sin(frame / 25))
        picture = torch.full((3, HEIGHT, WIDTH), -0.2)
        picture[:, top : top + FACE, left : left + FACE] = photo
        yield picture


class PeakMemory:
    """The largest resident size of a process while the `with` block runs."""

    def __init__(self, pid: int):
        self.process, self.peak, self.done = psutil.Process(pid), 0, threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self.before = self.process.memory_info().rss
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.done.wait(0.05):
            self.peak = max(self.peak, self.process.memory_info().rss)


def track_workflow() -> dict:
    workflow = json.loads((ROOT / "workflows/api/save_track.json").read_text(encoding="utf-8"))
    return {
        number: node
        for number, node in workflow.items()
        if node["class_type"] not in ("CreateVideo", "SaveVideo")
    }


def main(frames: int) -> None:
    comfyui = Path(os.environ.get("COMFYUI_PATH") or cache_folder() / f"ComfyUI-{COMFYUI_VERSION}")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with ComfyServer(local_interpreter(), comfyui, base, base / "server.log") as server:
            write_video(server.input_folder / "driving.mp4", wandering_face(frames), FPS, quality=23)
            client, workflow = ComfyClient(server.url), track_workflow()
            with PeakMemory(server.process.pid) as memory:
                start = time.monotonic()
                run = client.run(workflow)
                seconds = time.monotonic() - start
            print(f"{run.status} {run.error}")
            each = 1000 * seconds / frames
            print(f"{frames} frames of {WIDTH}x{HEIGHT}: {seconds:.0f} s, {each:.0f} ms a frame")
            print(f"resident: {memory.before / MIB:.0f} MiB before, at most {memory.peak / MIB:.0f} MiB")
            track = next(
                node for node in workflow.values() if node["class_type"] == "MagicPortraitTrackVideo"
            )
            track["inputs"]["smooth_head"] = 0.4  # not in the server's cache
            cancelled = client.run(workflow, cancel_when=lambda event: event.kind == "preview")
            print(f"{cancelled.status} {cancelled.cancel_seconds:.2f} s after asking to cancel")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1000)
    main(parser.parse_args().frames)
