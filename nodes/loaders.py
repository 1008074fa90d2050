"""Load FLAME Tracker: the head model and the networks that the other nodes track faces with."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import folder_paths
from comfy_api.latest import io

from . import host, licensed_files
from .licensed_files import BUILT_IN, DECA, LANDMARKS, SMIRK, TEXTURE, TRACKERS, TrackerFiles
from .sockets import HeadTracker, HeadTrackerSocket, ReleasedEncoders

if TYPE_CHECKING:
    import torch

    from ..magicportrait_core.head.model import HeadModel

logger = logging.getLogger("magicportrait")


class LoadTracker(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitLoadTracker",
            display_name="Load FLAME Tracker",
            category="MagicPortrait/tracking",
            description="Loads a 3D head model and the networks that track faces with it. What is needed is "
            "built in; FLAME, DECA and SMIRK are used when you have their files.",
            search_aliases=[
                "flame",
                "deca",
                "smirk",
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
                    options=licensed_files.head_choices(),
                    default=BUILT_IN,
                    tooltip="The 3D head. The built-in one needs nothing. FLAME files (.pkl, or converted "
                    ".safetensors) go into models/magicportrait/heads; they are never downloaded. DECA + "
                    "SMIRK need generic_model.pkl (FLAME 2020).",
                ),
                io.Combo.Input(
                    "device",
                    options=comfy.model_management.get_gpu_device_options(),
                    default="default",
                    advanced=True,
                    tooltip="Where the networks run. 'default' is ComfyUI's own choice; the landmark "
                    "networks are small enough for 'cpu'.",
                ),
                io.Combo.Input(
                    "tracker",
                    options=list(TRACKERS),
                    default=LANDMARKS,
                    optional=True,
                    tooltip="How a face becomes head parameters. Landmarks: the head chosen above is fitted "
                    "to 478 points; works with every head and needs no file. DECA + SMIRK: two networks "
                    "read FLAME's parameters from the picture, as the released MagicPortrait does; needs "
                    "their files, the report lists them.",
                ),
                io.Combo.Input(
                    "deca",
                    options=licensed_files.encoder_choices(DECA),
                    default=DECA,
                    optional=True,
                    advanced=True,
                    tooltip="For DECA + SMIRK: DECA's trained model, in models/magicportrait/trackers.",
                ),
                io.Combo.Input(
                    "smirk",
                    options=licensed_files.encoder_choices(SMIRK),
                    default=SMIRK,
                    optional=True,
                    advanced=True,
                    tooltip="For DECA + SMIRK: SMIRK's trained model, in models/magicportrait/trackers.",
                ),
                io.Combo.Input(
                    "texture",
                    options=licensed_files.texture_choices(),
                    default=TEXTURE,
                    optional=True,
                    advanced=True,
                    tooltip="For DECA + SMIRK: FLAME's texture space, which gives the render map its skin. "
                    "Needs head_template.obj beside the head. 'none': render maps take the portrait's own "
                    "colours, or grey.",
                ),
                io.Boolean.Input(
                    "eyelids",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="For DECA + SMIRK: move the eyelids as SMIRK sees them; needs l_eyelid.npy and "
                    "r_eyelid.npy beside the head. Off is the released system.",
                ),
                io.Boolean.Input(
                    "gaze",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="For DECA + SMIRK: turn the eyes as the landmark network sees them. Off is the "
                    "released system, whose eyes look straight ahead.",
                ),
                io.Boolean.Input(
                    "full_resolution",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="For DECA + SMIRK: DECA reads faces at the picture's own resolution; better for "
                    "videos that are not cropped to the face. Off is the released system, which sees every "
                    "picture at 512 pixels.",
                ),
            ],
            outputs=[
                HeadTrackerSocket.Output(
                    display_name="head_tracker", tooltip="The head model with its tracker."
                ),
                io.String.Output(
                    "report",
                    tooltip="What is loaded, and every licensed file: there or missing, its use, licence, "
                    "source and place.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, head: str | None = None) -> bool | str:
        """FLAME 2020 may be lacking until the node runs, which names it together with the other files."""
        try:
            if head is not None and Path(head).name != Path(licensed_files.FLAME_2020).name:
                licensed_files.head_path(head)
        except FileNotFoundError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(
        cls, device: str = "default", gaze: bool = False, full_resolution: bool = False, **chosen
    ) -> str:
        given = {name: value for name, value in chosen.items() if value is not None}  # None: over a wire
        return f"{chosen} {device} {gaze} {full_resolution} {TrackerFiles(**given).state()}"

    @classmethod
    def execute(
        cls,
        head: str,
        device: str = "default",
        gaze: bool = False,
        full_resolution: bool = False,
        **chosen,
    ) -> io.NodeOutput:
        files = TrackerFiles(head, **chosen)
        files.check()
        place = host.choose_device(device)
        if files.released:
            tracker = load_released(files, place, gaze, full_resolution)
        else:
            tracker = load_tracker(licensed_files.head_path(head), place)
        report = files.report()
        return io.NodeOutput(tracker, report, ui=host.show_text(report))


def load_tracker(file: Path | None, device: torch.device) -> HeadTracker:
    """Read the head and the networks; their tensors must be ordinary ones, since a fit needs gradients."""
    from ..magicportrait_core.head.assets import OPEN_HEAD, load_head
    from ..magicportrait_core.tracking.landmarker import load_landmarker

    host.check_cancelled()
    with host.ordinary_tensors():
        head = load_head(OPEN_HEAD if file is None else file)
        if head.landmarks is None:
            head = with_landmarks(head, file)
        return HeadTracker(head, load_landmarker(device), device, file)


def load_released(
    files: TrackerFiles, device: torch.device, gaze: bool, full_resolution: bool
) -> HeadTracker:
    """FLAME 2020 with DECA and SMIRK, whose weights the host moves to the device and back."""
    from ..magicportrait_core.tracking.landmarker import load_landmarker
    from ..magicportrait_core.tracking.released_files import load_released_tracker
    from .released_tracking import host_encoders

    flame, deca, smirk = (licensed_files.find(place) for place in (files.head, files.deca, files.smirk))
    texture = licensed_files.find(files.texture)

    def load():
        return load_released_tracker(
            flame, deca, smirk, texture, eyelids=files.eyelids, landmarker=load_landmarker(device)
        )

    tracker = host.interruptible(load)
    return HeadTracker(
        tracker.head,
        tracker.landmarker,
        device,
        flame,
        ReleasedEncoders(tracker, host_encoders(tracker, device), gaze, full_resolution),
    )


def with_landmarks(head: HeadModel, file: Path) -> HeadModel:
    """The head with the places of the 478 landmarks, found once for a file (half a minute) and kept."""
    from ..magicportrait_core.head.assets import load_head, save_head
    from ..magicportrait_core.tracking.calibration import calibrate

    about = file.stat()
    name = f"{file.stem}-{about.st_size}-{int(about.st_mtime)}.safetensors"
    kept = Path(folder_paths.get_user_directory()) / host.MODEL_KIND / licensed_files.HEADS_FOLDER / name
    if kept.is_file():
        return replace(head, landmarks=load_head(kept).landmarks)
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
