"""Safetensors files of float32 tensors that appear whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write beside the place, wait until the disk has it, move: a kill at any moment leaves a whole file.

    Raises OSError with one sentence, as for a full disk; the file that was there stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                _stream(file, tensors, metadata)
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


def _stream(file: BinaryIO, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """The safetensors format, tensor by tensor; the library would copy a long clip twice."""
    header, end = {"__metadata__": metadata}, 0
    for name, tensor in tensors.items():
        start, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # data starts at a multiple of 8
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        file.write(tensor.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4", copy=False))


def _wait_for_folder(folder: Path) -> None:
    """The new name must reach the disk too; Windows cannot open folders, and needs no such thing."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
