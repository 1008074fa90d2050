"""The example workflows as tests use them: read, changed by the titles of nodes, and their results found."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from comfy_client import Run
from comfy_server import ComfyServer

FOLDER = Path(__file__).resolve().parents[2] / "workflows"


def api(name: str) -> dict:
    """A workflow in API format."""
    return json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))


def node_named(workflow: dict, title: str) -> str:
    return next(key for key, node in workflow.items() if node["_meta"]["title"] == title)


def inputs_of(workflow: dict, title: str) -> dict:
    """The inputs of a node, to be changed in place."""
    return workflow[node_named(workflow, title)]["inputs"]


def saved_file(server: ComfyServer, workflow: dict, run: Run, title: str) -> Path:
    """The file that the saving node of this title wrote."""
    output = run.outputs[node_named(workflow, title)]
    (item,) = [item for items in output.values() for item in items if isinstance(item, dict)]
    return server.output_folder / item["subfolder"] / item["filename"]


def add_sound(silent: Path, target: Path, seconds: float, rate: int = 32000) -> None:
    """A copy of a video with a tone."""
    tone = np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate).astype(np.float32)[None]
    with av.open(str(silent)) as source, av.open(str(target), "w") as sink:
        pictures = sink.add_stream_from_template(source.streams.video[0])
        sound = sink.add_stream("aac", rate=rate, layout="mono")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = pictures
                sink.mux(packet)
        for start in range(0, tone.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(tone[:, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            sink.mux(sound.encode(frame))
        sink.mux(sound.encode())
