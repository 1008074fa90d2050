"""Writes converted networks: one safetensors file each, tensor by tensor, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models.config import ModelConfig
from .header import TEXT, Header

NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]


def write_network(
    path: Path,
    module: nn.Module,
    role: str,
    config: ModelConfig,
    metadata: Mapping[str, str] | None = None,
    text: Tensor | None = None,
) -> Path:
    """Write the weights of a network as they are, with a header; a file that is there is replaced.

    `role`: denoising_unet, appearance_net or guidance_encoder_{depth,normal,render}, also the usual stem of
    `path`. `metadata`: notes for people, such as source and licence. `text` (1, N, D): with denoising_unet.
    """
    tensors = dict(module.state_dict()) | ({} if text is None else {TEXT: text})
    layout = {name: (value.dtype, tuple(value.shape)) for name, value in tensors.items()}
    return write_tensors(path, layout, tensors.items(), Header(role, config, dict(metadata or {})))


def write_tensors(path: Path, layout: Layout, tensors: Iterable[tuple[str, Tensor]], header: Header) -> Path:
    """Write `tensors`, which come in the order of `layout` and are not kept.

    The file appears under its name when it is complete. Raises OSError of one sentence, as for a full disk.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.write(_head(layout, header.to_metadata()))
                for (name, (dtype, shape)), (given, tensor) in zip(layout.items(), tensors, strict=True):
                    if (given, tensor.dtype, tuple(tensor.shape)) != (name, dtype, shape):
                        raise ValueError(
                            f"{path.name}: {given!r} {tensor.dtype} {tuple(tensor.shape)} came where "
                            f"{name!r} {dtype} {shape} was announced"
                        )
                    file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error}); free some space or choose another folder"
        ) from error
    return path


def _head(layout: Layout, metadata: dict[str, str]) -> bytes:
    """Length and text of a safetensors header (the format's own words: dtype, shape, data_offsets)."""
    entries, end = {"__metadata__": metadata}, 0
    for name, (dtype, shape) in layout.items():
        start, end = end, end + dtype.itemsize * torch.Size(shape).numel()
        entries[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # data starts at a multiple of 8
    return len(text).to_bytes(8, "little") + text
