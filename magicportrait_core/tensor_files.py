"""Our own safetensors files: they appear whole or not at all, and say what they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.uint8: "U8"}
Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file of tensors that are all there; see stream_tensors."""
    stream_tensors(path, layout_of(tensors), tensors.items(), metadata)


def layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    return {name: (value.dtype, tuple(value.shape)) for name, value in tensors.items()}


def stream_tensors(
    path: Path, layout: Layout, tensors: Iterable[tuple[str, Tensor]], metadata: dict[str, str]
) -> None:
    """Write `tensors`, which come in the order of `layout` and are not kept.

    They are written beside the place, the disk is waited for, and the file is moved: a kill at any moment
    leaves a whole file, the old one or the new. Raises OSError with one sentence, as for a full disk.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.write(_head(layout, metadata))
                for (name, announced), (given, tensor) in zip(layout.items(), tensors, strict=True):
                    if (given, tensor.dtype, tuple(tensor.shape)) != (name, *announced):
                        raise ValueError(
                            f"{path.name}: {given!r} {tensor.dtype} {tuple(tensor.shape)} came where "
                            f"{name!r} {announced} was announced"
                        )
                    file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        _wait_for_folder(path.parent)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error}); free some space or choose another folder"
        ) from error


def read_tensors(path: Path, kind: str, version: int, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file of `kind`; `what` names it for people.

    FileNotFoundError when it is not there, ValueError of one sentence for every other fault.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {what} {str(path)!r}; check the path")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not a readable {what} (broken, cut short or foreign: {error})"
        ) from error
    if metadata.get("format") != kind:
        raise ValueError(
            f"{path} is a safetensors file but not a {what}: its format is "
            f"{metadata.get('format', 'not stated')!r}, expected {kind!r}"
        )
    if metadata.get("version") != str(version):
        raise ValueError(
            f"{path} is a {what} of version {metadata.get('version')}, this pack reads version "
            f"{version}; update the pack or render again"
        )
    return tensors, metadata


def remove_file(path: Path) -> None:
    """Delete a file of write_tensors and what killed writers left beside it."""
    path.unlink(missing_ok=True)
    for part in path.parent.glob(f".{path.name}.*.part"):
        part.unlink(missing_ok=True)


def _head(layout: Layout, metadata: dict[str, str]) -> bytes:
    """Length and text of a safetensors header (the format's own words: dtype, shape, data_offsets)."""
    entries, end = {"__metadata__": metadata}, 0
    for name, (dtype, shape) in layout.items():
        start, end = end, end + dtype.itemsize * torch.Size(shape).numel()
        entries[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # data starts at a multiple of 8
    return len(text).to_bytes(8, "little") + text


def _wait_for_folder(folder: Path) -> None:
    """The new name must reach the disk too; Windows cannot open folders, and needs no such thing."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
