"""Load FLAME Tracker: the head model and the landmark networks that the other nodes use."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import folder_paths
from comfy_api.latest import io

from . import host
from .sockets import HeadTracker, HeadTrackerSocket

if TYPE_CHECKING:
    from ..magicportrait_core.head.model import HeadModel

logger = logging.getLogger("magicportrait")

BUILT_IN = "open_head (built in)"
HEADS_FOLDER = "heads"  # models/magicportrait/heads


@dataclass(frozen=True)
class FlameFile:
    """A head file that people may fetch themselves; it is never downloaded."""

    name: str
    title: str
    licence: str
    site: str = "https://flame.is.tue.mpg.de"


FLAME_FILES = (
    FlameFile("flame2023_Open.pkl", "FLAME 2023 Open", "CC BY 4.0, free registration"),
    FlameFile("flame2023.pkl", "FLAME 2023", "non-commercial research only, free registration"),
    FlameFile("generic_model.pkl", "FLAME 2020", "non-commercial research only, free registration"),
)


def head_files() -> list[str]:
    """Head files in models/magicportrait: every .pkl, and .safetensors in a folder called heads."""
    names = (Path(name) for name in folder_paths.get_filename_list(host.MODEL_KIND))
    heads = (n for n in names if n.suffix == ".pkl" or HEADS_FOLDER in n.parts[:-1])
    return [n.as_posix() for n in heads if n.suffix in (".pkl", ".safetensors")]


def head_choices() -> list[str]:
    """The built-in head, the files that are there, and the names of well-known files that could be."""
    found = head_files()
    there = {Path(name).name for name in found}
    return [BUILT_IN, *found, *(f"{HEADS_FOLDER}/{f.name}" for f in FLAME_FILES if f.name not in there)]


def head_path(choice: str) -> Path | None:
    """The file of a choice, None for the built-in head; FileNotFoundError says where to get it."""
    if choice == BUILT_IN:
        return None
    for name in (choice, choice.replace("/", "\\")):  # lists made on Windows have the other slash
        path = folder_paths.get_full_path(host.MODEL_KIND, name)
        if path is not None:
            return Path(path)
    raise FileNotFoundError(missing_head(choice))


def missing_head(choice: str) -> str:
    """One sentence: what is missing, where it comes from, under which licence, where it goes."""
    folder = Path(host.model_folder()) / HEADS_FOLDER
    known = next((f for f in FLAME_FILES if f.name == Path(choice).name), None)
    if known is None:
        return (
            f"Head file {choice!r} is not in {host.model_folder()}: put it there (FLAME .pkl or converted "
            f".safetensors, in the folder {HEADS_FOLDER}), or choose '{BUILT_IN}', which needs no file."
        )
    return (
        f"{known.title} ({known.name}) is not installed: get it from {known.site} (licence: "
        f"{known.licence}), put it into {folder} and press R to refresh, or choose '{BUILT_IN}', which "
        "needs no file."
    )


class LoadTracker(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitLoadTracker",
            display_name="Load FLAME Tracker",
            category="MagicPortrait/tracking",
            description="Loads a 3D head model and the face landmark networks. Both are built in; FLAME "
            "files are used when you have them.",
            search_aliases=[
                "flame",
                "head model",
                "3dmm",
                "face tracker",
                "open head",
                "face landmarker",
                "mediapipe",
                "load magicportrait tracker",
            ],
            inputs=[
                io.Combo.Input(
                    "head",
                    options=head_choices(),
                    default=BUILT_IN,
                    tooltip="The 3D head that is fitted to faces. The built-in one needs nothing. FLAME "
                    "files (.pkl, or converted .safetensors) go into models/magicportrait/heads; they are "
                    "never downloaded.",
                ),
                io.Combo.Input(
                    "device",
                    options=comfy.model_management.get_gpu_device_options(),
                    default="default",
                    advanced=True,
                    tooltip="Where the landmark networks and the renderer run. 'default' is ComfyUI's own "
                    "choice; the networks are small enough for 'cpu'.",
                ),
            ],
            outputs=[
                HeadTrackerSocket.Output(
                    display_name="head_tracker", tooltip="The head model with its tracker."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, head: str | None = None) -> bool | str:
        try:
            if head is not None:
                head_path(head)
        except FileNotFoundError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, head: str | None = None, device: str = "default") -> str:
        try:
            path = head_path(head) if head else None
        except FileNotFoundError:
            path = None
        return f"{head} {device} {path.stat().st_mtime if path else ''}"

    @classmethod
    def execute(cls, head: str, device: str = "default") -> io.NodeOutput:
        return io.NodeOutput(load_tracker(head_path(head), host.choose_device(device)))


def load_tracker(file: Path | None, device) -> HeadTracker:
    """Read the head and the networks; their tensors must be ordinary ones, since a fit needs gradients."""
    from ..magicportrait_core.head.assets import OPEN_HEAD, load_head
    from ..magicportrait_core.tracking.landmarker import load_landmarker

    host.check_cancelled()
    with host.ordinary_tensors():
        head = load_head(OPEN_HEAD if file is None else file)
        if head.landmarks is None:
            head = with_landmarks(head, file)
        return HeadTracker(head, load_landmarker(device), device, file)


def with_landmarks(head: HeadModel, file: Path) -> HeadModel:
    """The head with the places of the 478 landmarks, found once for a file (half a minute) and kept."""
    from ..magicportrait_core.head.assets import load_head, save_head
    from ..magicportrait_core.tracking.calibration import calibrate

    about = file.stat()
    name = f"{file.stem}-{about.st_size}-{int(about.st_mtime)}.safetensors"
    kept = Path(folder_paths.get_user_directory()) / host.MODEL_KIND / HEADS_FOLDER / name
    if kept.is_file():
        return load_head(kept)
    logger.info("finding the landmarks on %s; this is done once for the file", file.name)
    head = replace(head, landmarks=calibrate(head, on_step=host.progress()))
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(f".{name}.{os.getpid()}.part")
        save_head(head, part)
        part.replace(kept)
    except OSError as error:
        logger.warning("the landmarks of %s cannot be kept (%s); they are found again next time", name, error)
    return head
