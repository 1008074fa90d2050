"""Tensors of other people's files, read without executing anything in them."""

from __future__ import annotations

import pickle
import re
import zipfile
from _codecs import encode
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .media.image import reason_of

try:
    from numpy._core.multiarray import scalar
except ImportError:  # numpy 1
    from numpy.core.multiarray import scalar

FOREIGN = re.compile(r"GLOBAL (\S+)")  # as torch names what it refuses to import


def read_tensors(
    path: Path,
    wanted: Callable[[str], bool] = lambda name: True,  # which names to read; whole checkpoints are large
) -> dict[str, Tensor]:
    """Named tensors of a .safetensors, .pt, .pth, .ckpt or .bin file, on the CPU.

    Raises FileNotFoundError or ValueError with one sentence for a file that is missing, damaged, or holds
    code (pickled files are read with weights_only).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; check the path")
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path, wanted)
    content = read_pickled(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no named weights; choose another file")
    return {k: v for k, v in content.items() if isinstance(v, Tensor) and wanted(k)}


def read_pickled(path: Path, remedy: str = "get it as .safetensors") -> object:
    """What torch.save wrote, read with weights_only and without copying weights into memory.

    Raises ValueError with one sentence, ended by `remedy`, for a file that is damaged or holds more than
    weights.
    """
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if named := FOREIGN.search(str(error)):
            raise ValueError(
                f"{path.name} holds more than weights ({named[1]}) and was not opened, since it could run "
                f"code; {remedy}"
            ) from error
        raise ValueError(f"{path.name} is no file of weights; {remedy}") from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise _unreadable(path, error) from error


def _numpy_numbers() -> list:
    """What a numpy number beside the weights (a step, a learning rate) is made of, by its names in numpy 1
    and 2; none of it runs anything."""
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    scalars = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*scalars, np.dtype, *kinds, encode]


def _read_safetensors(path: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if wanted(name)}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path.name} cannot be read ({reason_of(error)}); it may be incomplete: download or copy it again"
    )
