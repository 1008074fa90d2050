"""Safetensors files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

WRITE_ERRORS = (OSError, SafetensorError)  # a full disk comes as either


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write beside the place, wait until the disk has it, move: a kill at any moment leaves a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, part, metadata)
        _wait_for_disk(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    if os.name == "posix":  # folders cannot be opened on Windows, where moving is durable by itself
        _wait_for_disk(path.parent)


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
            f"{path.name} is not a readable {what} (broken, cut short or foreign: {error})"
        ) from error
    if metadata.get("format") != kind:
        raise ValueError(
            f"{path.name} is a safetensors file but not a {what}: its format is "
            f"{metadata.get('format', 'not stated')!r}, expected {kind!r}"
        )
    if metadata.get("version") != str(version):
        raise ValueError(
            f"{path.name} is a {what} of version {metadata.get('version')}, this pack reads version "
            f"{version}; update the pack or render again"
        )
    return tensors, metadata


def remove_file(path: Path) -> None:
    """Delete a file of write_tensors and what killed writers left beside it."""
    path.unlink(missing_ok=True)
    for part in path.parent.glob(f".{path.name}.*.part"):
        part.unlink(missing_ok=True)


def _wait_for_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
