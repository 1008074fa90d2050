"""The example workflows as nodes and links; make_workflows.py writes them as ComfyUI's files."""

from __future__ import annotations

from dataclasses import dataclass, field

# What the file widgets show until the user chooses; the demo and the tests use these names.
PORTRAIT, DRIVING, TRACK = "portrait.png", "driving.mp4", "magicportrait/track_00001_.safetensors [output]"


@dataclass(frozen=True)
class Out:
    """An output of another node, by name."""

    node: str
    output: str


@dataclass(frozen=True)
class ModelFile:
    """A file that a node needs; ComfyUI offers to fetch it when it is missing."""

    name: str
    folder: str  # below models
    url: str


@dataclass(frozen=True)
class Node:
    """A node of a graph; inputs that are not named keep their defaults."""

    type: str
    title: str
    column: int
    inputs: dict = field(default_factory=dict)
    width: int = 300
    space: int = 0  # pixels left free below, to stay level with a neighbour
    files: tuple[ModelFile, ...] = ()


@dataclass(frozen=True)
class Graph:
    note: str  # shown in the graph, Markdown
    columns: tuple[str, ...]  # titles of the groups, "" for a column that belongs to the group before it
    nodes: dict[str, Node]


def save_video(title: str, images: Out, prefix: str, column: int, fps: Out, audio: Out | None = None) -> dict:
    """Create Video and Save Video, side by side, for a batch of pictures."""
    key = prefix.rsplit("/", 1)[-1]
    inputs = {"images": images, "fps": fps} | ({"audio": audio} if audio else {})
    return {
        f"{key}_video": Node("CreateVideo", f"Video of {key.replace('_', ' ')}", column, inputs, 240, 314),
        f"{key}_file": Node(
            "SaveVideo",
            title,
            column + 1,
            {"video": Out(f"{key}_video", "VIDEO"), "filename_prefix": prefix},
            300,
        ),
    }


INPUTS = {
    "portrait": Node("LoadImage", "Portrait", 0, {"image": PORTRAIT}),
    "driving": Node("LoadVideo", "Driving video", 0, {"file": DRIVING}),
    "tracker": Node("MagicPortraitLoadTracker", "Head and tracker", 0),
}
TRACKING = {
    "track": Node(
        "MagicPortraitTrackVideo",
        "Track the driver",
        1,
        {"head_tracker": Out("tracker", "head_tracker"), "video": Out("driving", "VIDEO")},
        320,
    ),
}
FPS, AUDIO = Out("track", "fps"), Out("track", "audio")


def align(driving: Out, column: int) -> dict:
    inputs = {
        "head_tracker": Out("tracker", "head_tracker"),
        "portrait": Out("portrait", "IMAGE"),
        "driving": driving,
    }
    return {
        "align": Node("MagicPortraitAlignIdentity", "Portrait's head, driver's motion", column, inputs, 320),
    }


def guidance(column: int) -> dict:
    return {
        "guidance": Node(
            "MagicPortraitRenderGuidance",
            "Guidance maps",
            column,
            {
                "aligned": Out("align", "aligned"),
                "portrait": Out("portrait", "IMAGE"),
                "portrait_track": Out("align", "portrait_track"),
            },
            320,
        )
    }


def warp(column: int) -> dict:
    return {
        "warp": Node(
            "MagicPortraitFlowWarpPreview",
            "Move the portrait",
            column,
            {
                "portrait": Out("portrait", "IMAGE"),
                "portrait_track": Out("align", "portrait_track"),
                "aligned": Out("align", "aligned"),
            },
            300,
        ),
    }


def map_videos(column: int) -> dict:
    nodes = {}
    for name in ("depth", "normal", "render"):
        nodes |= save_video(f"Save {name}", Out("guidance", name), f"magicportrait/{name}", column, FPS)
    return nodes


GRAPHS = {
    "portrait_warp_preview": Graph(
        """
        ## A portrait moves
        1. **Portrait**: choose a picture of one person.
        2. **Driving video**: choose a clip of a face; sound and frame rate are kept.
        3. Run. Nothing is downloaded, no GPU is needed.

        *Portrait's head, driver's motion* has a strength for the head, jaw, mouth, brows, lids and gaze:
        0 keeps the portrait's own, 1 follows the driver.
        """,
        ("Inputs", "Track", "Align", "Warp and render", "Results", "", "Geometry", ""),
        {
            **INPUTS,
            **TRACKING,
            **align(Out("track", "track"), 2),
            **warp(3),
            **guidance(3),
            **save_video(
                "Save moving portrait", Out("warp", "image"), "magicportrait/portrait_moves", 4, FPS, AUDIO
            ),
            **save_video("Save tracked head", Out("track", "overlay"), "magicportrait/tracked_head", 4, FPS),
            **map_videos(6),
        },
    ),
    "guidance_maps": Graph(
        """
        ## Depth, normals and shaded head
        Renders the portrait's head with the driver's motion as three videos, for looking at the geometry or
        as control images of other models. **style** shows pictures for people or the exact numbers.
        """,
        ("Inputs", "Track", "Align", "Render", "Results", ""),
        {
            **INPUTS,
            **TRACKING,
            **align(Out("track", "track"), 2),
            **guidance(3),
            **map_videos(4),
        },
    ),
    "save_track": Graph(
        """
        ## Save a track
        Tracks the face of a clip once and keeps the motion as a small file, for any number of portraits.
        Open **reuse_saved_track** next.
        """,
        ("Inputs", "Track", "Results", ""),
        {
            "driving": INPUTS["driving"],
            "tracker": INPUTS["tracker"],
            **TRACKING,
            "save": Node("MagicPortraitSaveTrack", "Save the track", 2, {"track": Out("track", "track")}),
            **save_video("Save tracked head", Out("track", "overlay"), "magicportrait/tracked_head", 2, FPS),
        },
    ),
    "reuse_saved_track": Graph(
        """
        ## Use a saved track
        Moves a portrait with a track that **save_track** wrote: the clip is not needed any more. Press R when
        the file is not listed yet.
        """,
        ("Inputs", "Align", "Warp", "Results", ""),
        {
            "portrait": INPUTS["portrait"],
            "tracker": INPUTS["tracker"],
            "load": Node("MagicPortraitLoadTrack", "Saved track", 0, {"file": TRACK}),
            **align(Out("load", "track"), 1),
            **warp(2),
            **save_video(
                "Save moving portrait",
                Out("warp", "image"),
                "magicportrait/portrait_moves",
                3,
                Out("load", "fps"),
            ),
        },
    ),
}
