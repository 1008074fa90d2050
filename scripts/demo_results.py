"""What the demo shows and leaves behind: the workflow, its videos side by side, a report."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from demo_pictures import contact_sheet, open_picture, read_video, side_by_side, video_fps, write_video

ROOT = Path(__file__).resolve().parents[1]
GEOMETRY = "flow preview"  # the video that geometry alone gives
NETWORKS = "diffusion result"  # and that of the networks
WORTH_TELLING = 0.05  # seconds
CLEARLY = 16  # of 255 levels; a change that people see


@dataclass(frozen=True)
class Show:
    """A workflow, and what the videos of its saving nodes are called in the results, by the nodes' titles."""

    workflow: str
    saved: dict[str, str]
    result: str

    @property
    def has_networks(self) -> bool:
        return NETWORKS in self.saved.values()


# The flow preview is the pack's default renderer, so it is the result, and the small model stands beside it.
BOTH = Show(
    "reenactment_small",
    {
        "Save tracked head": "driver, tracked head",
        "Save depth": "depth",
        "Save normal": "normal",
        "Save moving portrait": GEOMETRY,
        "Save reenactment": NETWORKS,
    },
    result=GEOMETRY,
)
REENACTMENT = replace(BOTH, result=NETWORKS)
PREVIEW = Show(
    "portrait_warp_preview",
    {
        "Save tracked head": "driver, tracked head",
        "Save depth": "depth",
        "Save normal": "normal",
        "Save render": "render",
        "Save moving portrait": GEOMETRY,
    },
    result=GEOMETRY,
)


def read_workflow(show: Show) -> dict:
    """A workflow in API format."""
    return json.loads((ROOT / "workflows" / "api" / f"{show.workflow}.json").read_text(encoding="utf-8"))


def write_results(folder: Path, show: Show, workflow: dict, run, portrait: Path, outputs: Path) -> dict:
    """Lay the workflow's videos out for people and say where they are; returns the frames by label."""
    print("Laying out the results ...", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        show.saved[title]: path
        for title, path in saved_videos(workflow, run, outputs).items()
        if title in show.saved
    }
    columns = {"portrait": [np.asarray(open_picture(portrait).convert("RGB"))]}
    columns |= {label: list(read_video(files[label])) for label in show.saved.values()}
    fps = video_fps(files[show.result])
    shutil.copyfile(files[show.result], folder / "portrait_moves.mp4")
    write_video(folder / "side_by_side.mp4", side_by_side(columns), fps)
    contact_sheet(columns).save(folder / "contact_sheet.png")
    frames = len(columns[show.result])
    text = f"{report(workflow, run, frames)}\n{network_share(show, columns)}\n"
    (folder / "report.txt").write_text(text, encoding="utf-8")
    for name in ("portrait_moves.mp4", "side_by_side.mp4", "contact_sheet.png", "report.txt"):
        print(f"  {folder / name}")
    return columns


def network_share(show: Show, columns: dict) -> str:
    """How far the result differs from what geometry alone gives."""
    if not show.has_networks:
        return "Made by geometry alone: the built-in diffusion model is not there."
    pairs = zip(columns[GEOMETRY], columns[NETWORKS], strict=True)
    changes = [np.abs(a.astype(np.int16) - b).max(axis=2) for a, b in pairs]
    share = np.mean([np.mean(change > CLEARLY) for change in changes])
    return (
        f"portrait_moves.mp4 is the {show.result}; the other is beside it in side_by_side.mp4.\n"
        f"The networks changed {share:.1%} of the flow preview's pixels by more than {CLEARLY} of 255 levels."
    )


def saved_videos(workflow: dict, run, outputs: Path) -> dict[str, Path]:
    """Title of each saving node -> its file."""
    found = {}
    for key, output in run.outputs.items():
        for items in output.values():
            for item in items:
                if isinstance(item, dict) and item.get("type") == "output":
                    found[workflow[key]["_meta"]["title"]] = outputs / item["subfolder"] / item["filename"]
    return found


def report(workflow: dict, run, frames: int) -> str:
    """The texts that the workflow's nodes wrote, under their titles, and the time each node took."""
    parts = []
    for key, output in sorted(run.outputs.items(), key=lambda item: int(item[0])):
        if "text" in output:
            parts.append(f"{workflow[key]['_meta']['title']}\n" + "\n".join(map(str, output["text"])))
    starts = [(event.time, event.node) for event in run.of_kind("executing") if event.node]
    ends = [time for time, _ in starts[1:]] + [run.seconds]
    spent = [
        (workflow[node]["_meta"]["title"], end - begin)
        for (begin, node), end in zip(starts, ends, strict=True)
    ]
    lines = [
        f"{title:<32} {seconds:7.2f} s {1000 * seconds / frames:7.0f} ms a frame"
        for title, seconds in [*spent, ("all", run.seconds)]
        if seconds >= WORTH_TELLING
    ]
    return "\n\n".join([*parts, f"Time, {frames} frames\n" + "\n".join(lines)]) + "\n"
