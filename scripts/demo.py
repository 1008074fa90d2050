"""A portrait moves with a driving clip, by a workflow in a real ComfyUI on the CPU.

    python scripts/demo.py                                     set up what is missing, then run
    python scripts/demo.py --portrait me.jpg --driver her.mp4  your own picture and clip
    python scripts/demo.py --model runs/motion/model           a small model that you trained

The result is the flow preview, the pack's default; the built-in model's is beside it in side_by_side.mp4.
With --model it is the other way round. Results go to demo_output/: portrait_moves.mp4, side_by_side.mp4,
contact_sheet.png and report.txt.
The first run installs ComfyUI in a cached folder (see scripts/host.py); the next ones need no network.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from host import HostError, prepare

ROOT = Path(__file__).resolve().parents[1]
OWN_MODEL = "own"  # what --model is called in the demo's ComfyUI
BUILT_IN = ROOT / "magicportrait_core" / "assets" / "small" / "denoising_unet.safetensors"
INSIDE = "MAGICPORTRAIT_DEMO_INSIDE"  # set when this runs in the host's own Python


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="demo.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--portrait", type=Path, metavar="FILE", help="picture of one person (PNG, JPEG, WebP)"
    )
    parser.add_argument("--driver", type=Path, metavar="FILE", help="video or animated WebP of a face")
    parser.add_argument(
        "--frames", type=frame_count, default=0, metavar="N", help="use only the first N frames of the clip"
    )
    parser.add_argument(
        "--model", type=Path, metavar="FOLDER", help="small model of your own instead of the built-in one"
    )
    parser.add_argument(
        "--pictures", action="store_true", help="also renew docs/demo.webp and the pictures of the templates"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "demo_output", metavar="FOLDER")
    return parser.parse_args()


def frame_count(text: str) -> int:
    """A whole number from 0, for argparse."""
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return count


def main() -> int:
    options = arguments()
    if os.environ.get(INSIDE) == "1":
        return run_inside(options)
    try:
        host = prepare(say=lambda text: print(text, flush=True))
    except HostError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; run this again to go on from here", file=sys.stderr)
        return 130
    child = subprocess.Popen(
        [str(host.python), str(Path(__file__).resolve()), *sys.argv[1:]],
        env={**host.environment(), INSIDE: "1"},
    )
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue  # the child got it too; wait until it has stopped its server


def run_inside(options: argparse.Namespace) -> int:
    """The demo itself, in the Python that has ComfyUI's packages."""
    from comfy_server import ServerError
    from demo_pictures import PictureError

    try:
        return animate(options)
    except (PictureError, ServerError, HostError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def animate(options: argparse.Namespace) -> int:
    from comfy_client import ComfyClient
    from comfy_server import ComfyServer, local_interpreter
    from demo_pictures import PictureError, place_driving, write_portrait
    from demo_results import read_workflow, write_results

    show = chosen_show(options)
    if options.pictures and not show.has_networks:
        raise PictureError("--pictures shows what the diffusion model does: it needs the built-in model.")
    cache = Path(os.environ["MAGICPORTRAIT_CACHE"])
    base, log = cache / "demo", cache / "logs" / "demo_server.log"
    shutil.rmtree(base, ignore_errors=True)
    (base / "input").mkdir(parents=True)
    portrait = base / "input" / "portrait.png"
    write_portrait(options.portrait, portrait)
    driving = place_driving(options.driver, base / "input")
    if options.model:
        place_model(options.model, base / "models" / "magicportrait")

    print("Starting ComfyUI ...", flush=True)
    begun = time.monotonic()
    with ComfyServer(local_interpreter(), Path(os.environ["COMFYUI_PATH"]), base, log) as server:
        print(f"  ready after {time.monotonic() - begun:.0f} s at {server.url}; log: {log}")
        workflow = read_workflow(show)
        set_input(workflow, "LoadImage", "image", portrait.name)
        set_input(workflow, "LoadVideo", "file", driving.name)
        set_input(workflow, "MagicPortraitTrackVideo", "frame_limit", options.frames)
        if options.model:
            set_input(workflow, "MagicPortraitLoadModel", "model", OWN_MODEL)
        progress = Progress(workflow)
        run = ComfyClient(server.url).run(workflow, on_event=progress)
        progress.close()
        if run.status != "success":
            print(f"\nerror: {run.error or run.status}\n  the server's log: {log}", file=sys.stderr)
            return 1
    columns = write_results(options.output, show, workflow, run, portrait, base / "output")
    if options.pictures:
        from demo_pictures import read_video, write_documentation

        write_documentation(ROOT, {**columns, "driver": list(read_video(driving))})
    return 0


def place_model(folder: Path, models: Path) -> None:
    """Copy the files of a model to where ComfyUI looks for models."""
    from demo_pictures import PictureError

    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files:
        raise PictureError(
            f"{folder} has no model files: name a folder with denoising_unet.safetensors and its companions."
        )
    (models / OWN_MODEL).mkdir(parents=True)
    for file in files:
        shutil.copyfile(file, models / OWN_MODEL / file.name)


def chosen_show(options: argparse.Namespace):
    """What to show: a model of one's own, the preview beside the built-in model, or, where that is missing,
    the preview alone, and says so."""
    from demo_results import BOTH, PREVIEW, REENACTMENT

    if options.model:
        return REENACTMENT
    if BUILT_IN.is_file():
        return BOTH
    print(f"The built-in model is not here ({BUILT_IN} is missing): showing geometry alone.", flush=True)
    return PREVIEW


def set_input(workflow: dict, class_type: str, name: str, value: str | int) -> None:
    for node in workflow.values():
        if node["class_type"] == class_type:
            node["inputs"][name] = value


class Progress:
    """Shows one line per node of the workflow: its title, a bar, the time it still needs."""

    WIDTH = 24

    def __init__(self, workflow: dict, out=sys.stdout):
        self.titles = {key: node["_meta"]["title"] for key, node in workflow.items()}
        self.out, self.live = out, out.isatty()
        self.node: str | None = None
        self.begun = 0.0

    def __call__(self, event) -> None:
        if event.kind == "executing" and event.node != self.node:
            self.close()
            self.node, self.begun = event.node, time.monotonic()
            if self.live and self.node is not None:
                self._write("")
        elif event.kind == "progress" and event.node == self.node:
            self._show(event.data["value"], event.data["max"])

    def close(self) -> None:
        """Finish the line of the node that ran last."""
        if self.node is not None:
            self._write(f"{time.monotonic() - self.begun:6.1f} s", end="\n")
        self.node = None

    def _show(self, value: float, total: float) -> None:
        if not self.live or not value:
            return
        filled = round(self.WIDTH * value / total)
        left = (time.monotonic() - self.begun) * (total - value) / value
        self._write(f"[{'#' * filled}{'.' * (self.WIDTH - filled)}] {value / total:4.0%}, {left:.0f} s left")

    def _write(self, text: str, end: str = "") -> None:
        line = f"  {self.titles.get(self.node, self.node):<34} {text}"
        self.out.write((f"\r{line:<86}" if self.live else line) + end)
        self.out.flush()


if __name__ == "__main__":
    sys.exit(main())
