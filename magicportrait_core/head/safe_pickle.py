"""Reads the pickles in which FLAME is published without running anything that is in them.

A pickle is a small program that may call any function. This reader knows numpy's array makers, and stand-ins
for the chumpy and scipy objects of FLAME's files; at every other name it stops before anything is called.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import torch

try:
    from numpy._core.multiarray import _reconstruct, scalar
except ImportError:  # numpy 1
    from numpy.core.multiarray import _reconstruct, scalar


class RefusedPickle(pickle.UnpicklingError):
    """The pickle asks for something that is not on the list; nothing of it was run."""


class _Stored:
    """Keeps the state of an object whose class is not needed."""

    def __new__(cls, *_args: Any, **_names: Any) -> _Stored:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {"x": state}


class _ChumpyArray(_Stored):
    """chumpy.ch.Ch: the array is in "x"."""


class _ChumpySelection(_Stored):
    """chumpy.reordering.Select: elements "idxs" of the array "a", in "preferred_shape"."""


class _SparseColumns(_Stored):
    """scipy's compressed sparse column matrix."""


def _reconstructor(cls: type, base: type, _state: Any) -> Any:
    if not (isinstance(cls, type) and issubclass(cls, _Stored)) or base is not object:
        raise RefusedPickle(f"an object of kind {getattr(cls, '__name__', cls)!r}")
    return object.__new__(cls)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedPickle(f"text in {encoding!r}")
    return text.encode("latin1")


def _storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)


def _allowed() -> dict[tuple[str, str], Callable | type]:
    names: dict[tuple[str, str], Callable | type] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("chumpy.ch", "Ch"): _ChumpyArray,
        ("chumpy", "Ch"): _ChumpyArray,
        ("chumpy.reordering", "Select"): _ChumpySelection,
        ("scipy.sparse.csc", "csc_matrix"): _SparseColumns,
        ("scipy.sparse._csc", "csc_matrix"): _SparseColumns,
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): _encode,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        ("torch.storage", "_load_from_bytes"): _storage,
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names |= {(module, "_reconstruct"): _reconstruct, (module, "scalar"): scalar}
    for module in ("copy_reg", "copyreg"):
        names[module, "_reconstructor"] = _reconstructor
    for module in ("__builtin__", "builtins"):
        names |= {(module, "object"): object, (module, "set"): set, (module, "frozenset"): frozenset}
    return names


_ALLOWED = _allowed()


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise RefusedPickle(f"{module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedPickle(f"an outside object {pid!r}")


def read_pickle(file: BinaryIO) -> Any:
    """The content as plain numpy arrays, tensors, dicts, lists, numbers and text.

    Raises RefusedPickle at the first name that is not on the list, and what pickle raises for a damaged file.
    """
    return _plain(_Reader(file, encoding="latin1").load())


def _plain(value: Any) -> Any:
    if isinstance(value, _ChumpySelection):
        state = value.state
        chosen = np.asarray(_plain(state["a"])).ravel()[np.asarray(state["idxs"]).ravel().astype(np.int64)]
        shape = state.get("preferred_shape")
        return chosen if shape is None else chosen.reshape(shape)
    if isinstance(value, _SparseColumns):
        return _dense(value.state)
    if isinstance(value, _Stored):
        return _plain(value.state["x"])
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value


def _dense(state: dict[str, Any]) -> np.ndarray:
    shape = state.get("_shape") or state["shape"]
    starts, rows, data = np.asarray(state["indptr"]), np.asarray(state["indices"]), np.asarray(state["data"])
    matrix = np.zeros(shape, np.float64)
    columns = np.repeat(np.arange(shape[1]), np.diff(starts))
    np.add.at(matrix, (rows, columns), data)
    return matrix
