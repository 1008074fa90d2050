"""Tracks as files: safetensors with a JSON header, never pickle, so a stranger's track is safe to open."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..head.model import HeadModel
from ..rendering.camera import Camera
from .track import FaceTrack

FORMAT = "magicportrait_face_track"
VERSION = 1
SUFFIX = ".safetensors"
REQUIRED = ("shape", "expression", "pose", "eyelids", "confidence", "found", "error", "view", "intrinsics")
OPTIONAL = ("landmarks", "texture", "light", "covered")
FLAGS = ("found", "covered")
MUST_BE_FINITE = ("shape", "expression", "pose", "eyelids", "view", "intrinsics")


def save_track(track: FaceTrack, path: str | Path) -> Path:
    """Write the track; returns the path, with .safetensors added where it has no suffix.

    The file appears whole or not at all (it is written beside its place and moved).
    """
    path = Path(path)
    if path.suffix == "":
        path = path.with_suffix(SUFFIX)
    header = {
        "head": track.head,
        "frames": track.num_frames,
        "size": list(track.size),
        "fps": float(track.fps),
        "projection": track.camera.projection,
        "face_index": track.face_index,
        "expression_names": list(track.expression_names),
    }
    values = {name: getattr(track, name, None) for name in REQUIRED + OPTIONAL}
    values |= {"view": track.camera.view, "intrinsics": track.camera.intrinsics}
    tensors = {name: v.detach().cpu().clone().contiguous() for name, v in values.items() if v is not None}
    data = save(tensors, {"format": FORMAT, "version": str(VERSION), "header": json.dumps(header)})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def load_track(path: str | Path, head: HeadModel | None = None) -> FaceTrack:
    """Read a track, exactly as it was saved. With `head`, a track of another head model is refused.

    Every other fault of the file is a ValueError of one sentence (FileNotFoundError when it is not there).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no track file {str(path)!r}; choose a file that Save Track wrote")
    metadata, tensors = _read(path)
    header = _header(path, metadata)
    missing = [name for name in REQUIRED if name not in tensors]
    if missing:
        raise ValueError(f"{path.name} is damaged: it lacks {', '.join(missing)}; save the track again")
    _check_numbers(path, tensors)
    try:
        track = FaceTrack(
            head=header["head"],
            camera=Camera(
                tensors["view"], tensors["intrinsics"], tuple(header["size"]), header["projection"]
            ),
            fps=header["fps"],
            face_index=header["face_index"],
            expression_names=tuple(header["expression_names"]),
            **{name: tensors[name] for name in REQUIRED if name not in ("view", "intrinsics")},
            **{name: tensors[name] for name in OPTIONAL if name in tensors},
        )
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path.name} is damaged: {error}; save the track again") from error
    if head is not None:
        _check_head(path, track, head)
    return track


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path.name} is not a readable safetensors file (broken, cut short, or of another kind: "
            f"{error}); "
            "choose a file that Save Track wrote"
        ) from error


def _header(path: Path, metadata: dict[str, str]) -> dict:
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path.name} is a safetensors file but not a face track (its format is "
            f"{metadata.get('format', 'not stated')!r}, expected {FORMAT!r}); choose a file that Save "
            "Track wrote"
        )
    if metadata.get("version") != str(VERSION):
        raise ValueError(
            f"{path.name} is a face track of version {metadata.get('version')}, this pack reads version "
            f"{VERSION}; "
            "update the pack, or track the video again"
        )
    try:
        header = json.loads(metadata["header"])
        kinds = {
            "head": str,
            "size": list,
            "fps": (int, float),
            "projection": str,
            "face_index": int,
            "expression_names": list,
        }
        wrong = [name for name, kind in kinds.items() if not isinstance(header[name], kind)]
        size_ok = len(header["size"]) == 2 and all(isinstance(n, int) and n > 0 for n in header["size"])
        names_ok = all(isinstance(n, str) for n in header["expression_names"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path.name} is damaged: its header cannot be read; save the track again"
        ) from error
    if wrong or not size_ok or not names_ok or not math.isfinite(header["fps"]):
        raise ValueError(f"{path.name} is damaged: its header holds impossible values; save the track again")
    return header


def _check_numbers(path: Path, tensors: dict[str, Tensor]) -> None:
    """Values of frames with a face, and of the person, must be numbers; other frames may be unfilled."""
    found = tensors["found"]
    if found.dtype != torch.bool or found.ndim != 1:
        raise ValueError(f"{path.name} is damaged: 'found' is not one flag a frame; save the track again")
    for name in REQUIRED + OPTIONAL:
        tensor = tensors.get(name)
        if tensor is not None and name not in FLAGS and not tensor.is_floating_point():
            raise ValueError(
                f"{path.name} is damaged: {name} holds {tensor.dtype}, not numbers; save it again"
            )
    if "covered" in tensors and tensors["covered"].dtype != torch.bool:
        raise ValueError(
            f"{path.name} is damaged: 'covered' holds {tensors['covered'].dtype}, not flags; save it again"
        )
    for name in MUST_BE_FINITE:
        values = tensors[name]
        if name not in ("shape", "intrinsics") and values.shape[:1] == found.shape:
            values = values[found]
        if not bool(values.isfinite().all()):
            raise ValueError(f"{path.name} is damaged: {name} holds values that are not numbers; track again")


def _check_head(path: Path, track: FaceTrack, head: HeadModel) -> None:
    if track.head != head.name:
        raise ValueError(
            f"{path.name} was tracked with head {track.head!r}, but head {head.name!r} is connected; connect "
            f"{track.head!r}, or track the video again"
        )
    expected = (head.num_shape, head.num_expression)
    actual = (track.shape.shape[1], track.expression.shape[1])
    if actual[0] > expected[0] or actual[1] != expected[1]:
        raise ValueError(
            f"{path.name} has {actual[0]} shape and {actual[1]} expression coefficients, but head "
            f"{head.name!r} has "
            f"{expected[0]} and {expected[1]}: it is from another version of that head; track the video again"
        )
    if track.expression_names and track.expression_names != head.expression_names:
        raise ValueError(
            f"{path.name} names its expressions otherwise than head {head.name!r}: it is from another "
            "version of that "
            "head; track the video again"
        )
