"""One file of weights: its names and shapes at once, its numbers tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..media.image import reason_of
from ..weight_files import read_pickled

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")  # in the order of preference
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # what trainers put a state dict into
PREFIXES = ("module.", "_orig_mod.")  # what torch's parallel and compiled modules put before each name


@dataclass(frozen=True)
class Weights:
    """An open file. Names are without the prefixes of trainers."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    read: Callable[[str], Tensor]  # of a name in `shapes`; may lie in the mapped file: copy it

    @property
    def name(self) -> str:
        return self.path.name


def open_weights(path: Path) -> Weights:
    """Open a .safetensors file, or one that torch.save wrote, without running anything that is in it.

    Raises FileNotFoundError or ValueError of one sentence for a file that is missing, empty, cut short, holds
    code, or holds no named tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; check the path")
    if path.stat().st_size == 0:
        raise ValueError(f"{path.name} is empty; download or copy it again")
    opened = _open_safetensors(path) if path.suffix.lower() == ".safetensors" else _open_pickled(path)
    if not opened.shapes:
        raise ValueError(f"{path.name} holds no tensors; download or copy it again")
    return opened


def _open_safetensors(path: Path) -> Weights:
    try:
        file = safe_open(path, framework="pt")
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _cut_short(path, error) from error

    def read(name: str) -> Tensor:
        try:
            return file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise _cut_short(path, error) from error

    return _without_prefixes(Weights(path, shapes, metadata, read))


def _cut_short(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path.name} cannot be read ({reason_of(error)}); it may be cut short: download or copy it again"
    )


def _open_pickled(path: Path) -> Weights:
    with path.open("rb") as file:
        start = file.read(4)
    if not start.startswith((b"PK", b"\x80")):  # a zip archive, or a pickle of torch before 1.6
        raise ValueError(
            f"{path.name} is no file that torch.save wrote (it begins with {start!r}: a web page, a pointer "
            "to a file, or an unfinished download?); download or copy it again"
        )
    content = _unwrapped(read_pickled(path, "use the published file, or one saved as .safetensors"))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no named tensors; use the published file")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{path.name} holds {name!r}, which is no tensor but {type(value).__name__}; save the "
                "network's state dict alone"
            )
    shapes = {str(name): tuple(value.shape) for name, value in content.items()}
    return _without_prefixes(Weights(path, shapes, {}, lambda name: content[name].detach()))


def _unwrapped(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), dict)), None)
    return content if inner is None else inner


def _without_prefixes(weights: Weights) -> Weights:
    prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in weights.shapes)), None)
    if prefix is None or not weights.shapes:
        return weights
    return _without_prefixes(
        Weights(
            weights.path,
            {name.removeprefix(prefix): shape for name, shape in weights.shapes.items()},
            weights.metadata,
            lambda name: weights.read(prefix + name),
        )
    )
