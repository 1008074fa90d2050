"""Segments as files, to carry a worker's part of a render to the machine that merges them."""

from __future__ import annotations

import json
from pathlib import Path

from ..tensor_files import read_tensors, write_tensors
from .segments import PortraitSegments

FORMAT = "magicportrait_segments"
VERSION = 1
SUFFIX = ".safetensors"
WHAT = "file of portrait segments"


def save_segments(segments: PortraitSegments, path: str | Path) -> Path:
    """Write the segments, whole or not at all; returns the path, with .safetensors if it had no suffix."""
    path = Path(path)
    if path.suffix == "":
        path = path.with_suffix(SUFFIX)
    header = {
        "frames": segments.frames,
        "num_frames": segments.num_frames,
        "latent_scale": segments.latent_scale,
        "render": segments.render,
    }
    tensors = {str(i): latent for i, latent in enumerate(segments.latents)}
    write_tensors(path, tensors, {"format": FORMAT, "version": str(VERSION), "header": json.dumps(header)})
    return path


def load_segments(path: str | Path) -> PortraitSegments:
    """Segments exactly as they were saved.

    FileNotFoundError when the file is not there, ValueError of one sentence for every other fault.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path, FORMAT, VERSION, WHAT)
    try:
        header = json.loads(metadata["header"])
        segments = PortraitSegments(
            latents=tuple(tensors[str(i)] for i in range(len(header["frames"]))),
            frames=tuple(tuple(int(frame) for frame in frames) for frames in header["frames"]),
            num_frames=int(header["num_frames"]),
            latent_scale=float(header["latent_scale"]),
            render=str(header["render"]),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is damaged ({error}); save the segments again") from error
    if not all(bool(latent.isfinite().all()) for latent in segments.latents):
        raise ValueError(f"{path.name} holds values that are not finite; render these segments again")
    return segments
