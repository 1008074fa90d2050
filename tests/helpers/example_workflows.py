"""The example workflows as tests use them: read, changed by the titles of nodes, and their results found."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from comfy_client import ComfyClient, Run
from comfy_server import ComfyServer, local_interpreter
from demo_pictures import read_video, write_driving, write_portrait, write_video
from PIL import Image
from safetensors.torch import load_file

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
FRAMES, FPS = 12, 15  # of the toy clips: three windows of 6 frames


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


def keep_results(workflow: dict) -> None:
    """Adds Latents (Save Latent) and Pictures (Save Image), from which Render reads what was made."""
    for title, kind, inputs in (
        ("Latents", "SaveLatent", {"samples": [node_named(workflow, "One timeline"), 0]}),
        ("Pictures", "SaveImage", {"images": [node_named(workflow, "Frames"), 0]}),
    ):
        inputs["filename_prefix"] = "toy"
        workflow[title] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}


class Render:
    """A workflow that was run, with nodes titled Pictures (Save Image) and Latents (Save Latent)."""

    def __init__(self, client: ComfyClient, server: ComfyServer, workflow: dict):
        self.server, self.workflow = server, workflow
        self.run: Run = client.run(workflow)
        assert self.run.status == "success", self.run.error

    @property
    def frames(self) -> np.ndarray:  # (F, H, W, 3), exactly; the host's video files differ from run to run
        return self.pictures("Pictures")

    def pictures(self, title: str) -> np.ndarray:  # (F, H, W, 3), of a Save Image node
        items = self.run.outputs[node_named(self.workflow, title)]["images"]
        return np.stack([np.asarray(Image.open(self.server.output_folder / i["filename"])) for i in items])

    @property
    def latents(self) -> torch.Tensor:  # (F, C, h, w)
        return load_file(saved_file(self.server, self.workflow, self.run, "Latents"))["latent_tensor"]

    def executed(self, title: str) -> bool:
        return node_named(self.workflow, title) in self.run.executed_nodes()


def write_toy_inputs(folder: Path) -> None:
    """A portrait of 128 x 256 pixels (small.png), two clips of one man (silent.mp4, other.mp4), and the first
    with sound (spoken.mp4)."""
    write_portrait(None, folder / "large.png")
    Image.open(folder / "large.png").crop((128, 0, 384, 512)).resize((128, 256)).save(folder / "small.png")
    write_driving(folder / "both.mp4", max_frames=2 * FRAMES)
    frames = list(read_video(folder / "both.mp4"))
    write_video(folder / "silent.mp4", frames[:FRAMES], Fraction(FPS))
    write_video(folder / "other.mp4", frames[FRAMES:], Fraction(FPS))
    add_sound(folder / "silent.mp4", folder / "spoken.mp4", FRAMES / FPS)


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


def finished_after_kill(workflow: dict, server: ComfyServer, comfyui: Path, base: Path) -> Render:
    """A workflow in a server of its own that is killed half way, run again in a new one, which goes on."""
    sampler = node_named(workflow, "Sampler")
    for shared in ("models", "input"):
        (base / shared).symlink_to(server.base / shared, target_is_directory=True)
    mortal = ComfyServer(local_interpreter(), comfyui, base, base / "log", pack_name="magicportrait")

    def kill_half_way(event) -> None:
        if event.kind == "progress" and event.node == sampler and 2 * event.data["value"] > event.data["max"]:
            mortal.kill()

    with mortal:
        broken = ComfyClient(mortal.url).run(workflow, on_event=kill_half_way)
        assert broken.status == "error" and "closed the connection" in broken.error
        assert len(list(base.glob("user/magicportrait/renders/*.safetensors"))) == 1
        mortal.start()
        rest = Render(ComfyClient(mortal.url), mortal, workflow)
        report = rest.run.outputs[sampler]["text"][0]
        assert re.search(r"went on from a render that had stopped at (25|50|75)%", report), report
    return rest
