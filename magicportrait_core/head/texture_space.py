"""FLAME's texture space: a mean skin and its principal components, as an albedo for a code of DECA's."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .files import HeadFileError

FILE = "FLAME_texture.npz"
ORIGIN = "flame.is.tue.mpg.de (Texture Space)"
SIDE = 512  # texels of the published pictures
NUM_CODES = 50  # of the 200 components, as many as DECA's encoder gives
SKIP = 2  # every other texel is used: the released renderer works with 256


@dataclass(frozen=True)
class TextureSpace:
    """Colours in 0..1, RGB, first row at v = 1."""

    mean: Tensor  # (3, 256, 256)
    components: Tensor  # (50, 3, 256, 256) for unit standard deviation

    def albedo(
        self,
        code: Tensor,  # (B, <= 50)
    ) -> Tensor:  # (B, 3, 256, 256)
        """Skin without light. Not limited to 0..1, as in the released renderer."""
        if code.ndim != 2 or code.shape[1] > len(self.components):
            raise ValueError(
                f"texture code has shape {tuple(code.shape)}; expected (frames, at most "
                f"{len(self.components)}) of DECA's encoder"
            )
        used = self.components[: code.shape[1]].to(code.device)
        return self.mean.to(code.device) + (code @ used.flatten(1)).unflatten(1, used.shape[1:])


def read_texture_space(path: str | Path) -> TextureSpace:
    """The used part of FLAME_texture.npz (40 MB in memory; the file's 600 MB pass through once)."""
    path = Path(path)
    again = f"choose {FILE} from {ORIGIN}"
    if not path.is_file():
        raise HeadFileError(f"there is no texture file at {path}; {again}")
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in ("mean", "tex_dir") if name not in file]:
                raise HeadFileError(
                    f"{path.name} {_guess(file.files)} and lacks {', '.join(missing)}; {again}"
                )
            mean = _picture(path, "mean", file["mean"], (SIDE, SIDE, 3))
            components = _picture(path, "tex_dir", file["tex_dir"], (SIDE, SIDE, 3, None))
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        if isinstance(error, HeadFileError):
            raise
        raise HeadFileError(
            f"{path.name} cannot be read as {FILE} ({type(error).__name__}); it is cut short or of another "
            f"kind: {again}"
        ) from None
    if components.shape[-1] < NUM_CODES:
        raise HeadFileError(
            f"{path.name} has {components.shape[-1]} components, expected {NUM_CODES} or more; {again}"
        )
    return TextureSpace(mean.movedim(-1, 0).contiguous(), components.permute(3, 2, 0, 1).contiguous())


def _picture(path: Path, name: str, array: np.ndarray, shape: tuple[int | None, ...]) -> Tensor:
    """Every other texel, RGB, 0..1; of components the first 50."""
    fits = array.ndim == len(shape) and all(
        want in (None, got) for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in "fiu":
        raise HeadFileError(
            f"{path.name}: {name} has shape {array.shape}, expected {SIDE} x {SIDE} texels of 3 colours; "
            f"choose the original {FILE} from {ORIGIN}"
        )
    part = array[::SKIP, ::SKIP, ::-1]  # BGR in the file
    part = part[..., :NUM_CODES] if array.ndim == 4 else part
    values = torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)) / 255
    if not bool(values.isfinite().all()):
        raise HeadFileError(f"{path.name}: {name} holds values that are not numbers; download it again")
    return values


def _guess(names: list[str]) -> str:
    if {"MU", "PC"} & set(names):
        return "is DECA's albedo model made from the Basel face model"
    return f"holds {', '.join(names[:4]) or 'nothing'}"
