"""Tensors of long clips that lie in a file instead of memory."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


def room(shape: tuple[int, ...], dtype: torch.dtype, store: Path | None, what: str) -> Tensor:
    """An empty tensor, in memory or, where `store` names a file, mapped from it; what was there is lost.

    `what` names the contents, of shape[0] frames, for people. Raises OSError with one sentence where there is
    no room.
    """
    if store is None:
        return torch.empty(shape, dtype=dtype)
    store.parent.mkdir(parents=True, exist_ok=True)
    store.unlink(missing_ok=True)
    count = torch.Size(shape).numel()
    try:
        return torch.from_file(str(store), shared=True, size=count, dtype=dtype).view(shape)
    except RuntimeError as error:
        need = count * dtype.itemsize / 1e9
        raise OSError(
            f"the {what} of {shape[0]} frames need {need:.1f} GB in {store.parent}, which failed "
            f"({str(error).splitlines()[0]}); free some space there or choose another folder"
        ) from error
