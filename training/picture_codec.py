"""Pictures of clips as JPEG, PNG or WebP: several in one run of bytes, each readable alone."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

JPEG_QUALITY = 95  # full colour resolution: portraits lose nothing that an eye sees
FORMATS: Mapping[str, dict] = {
    "jpeg": {"quality": JPEG_QUALITY, "subsampling": 0},
    "webp": {"lossless": True, "quality": 20, "method": 1},  # small where it costs little time
    "png": {"compress_level": 6},
}
END = np.dtype("<i8")  # of a picture, bytes after the table of ends


def encode(
    pictures: Tensor,  # (F, 1 or 3, H, W) uint8
    format: str,
) -> Tensor:  # (bytes,) uint8: a table of F ends, then the pictures one after the other
    """The same pictures in a format of FORMATS; all but jpeg lose nothing."""
    coded = []
    for picture in pictures.cpu():
        levels = picture[0] if len(picture) == 1 else picture.movedim(0, -1)
        file = io.BytesIO()
        Image.fromarray(levels.contiguous().numpy()).save(file, format, **FORMATS[format])
        coded.append(file.getvalue())
    ends = np.cumsum([len(part) for part in coded], dtype=END)
    return torch.frombuffer(bytearray(ends.tobytes() + b"".join(coded)), dtype=torch.uint8)


def decode(
    coded: Tensor,  # (bytes,) as `encode` made them; or what slices like one
    total: int,  # pictures in it
    wanted: Sequence[int],
    channels: int,
) -> Tensor:  # (W, channels, H, W) uint8
    """Some of the pictures; only their bytes are read. ValueError for bytes that are no pictures."""
    table = END.itemsize * total
    ends = coded[:table].numpy().view(END)
    return torch.stack([_picture(coded, table, ends, number, channels) for number in wanted])


def _picture(coded: Tensor, table: int, ends: np.ndarray, number: int, channels: int) -> Tensor:
    start = int(ends[number - 1]) if number else 0
    data = coded[table + start : table + int(ends[number])].numpy().tobytes()
    try:
        with Image.open(io.BytesIO(data)) as picture:
            levels = np.array(picture.convert("L" if channels == 1 else "RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"picture {number} cannot be decoded") from error
    return torch.from_numpy(levels.reshape(*levels.shape[:2], channels)).movedim(-1, 0).contiguous()
