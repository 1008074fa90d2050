"""Training clips in shards: safetensors files with an index beside them.

A folder holds index.json and shard-00000.safetensors and so on. A clip is some frames, guidance maps for each
of them and, for warp-preconditioned models, the still picture that its warp was made from. All are 8-bit
levels. The index is written after each shard, both whole or not at all: a stopped writer goes on with the
clips that the index does not name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from magicportrait_core.tensor_files import write_tensors

INDEX = "index.json"
VERSION = 1
MIRRORED_X = "normal_left"  # of the normals, max(-x, 0): what is their red in a mirrored picture
CHANNELS = {"depth": 1, "normal": 3, "render": 3, "warp": 3, "sources": 1, MIRRORED_X: 1}  # as stored
SHARD_BYTES = 256 * 2**20
REFERENCE, FRAMES = "reference", "frames"


@dataclass(frozen=True)
class Clip:
    """Some frames of one face. `maps` as in GuidanceMaps, in 8 bits: normals clipped at 0, `sources` the
    labels of warp.sources. `warp` and `sources` belong to `reference`."""

    name: str  # unique in its store
    frames: Tensor  # (F, 3, H, W) uint8
    maps: dict[str, Tensor]  # (F, C, H, W) uint8, C as in CHANNELS
    reference: Tensor | None = None  # (3, H, W) uint8; None: any other frame serves
    fps: float = 0.0  # 0: frames are single pictures without an order
    notes: dict[str, str] = field(default_factory=dict)  # for people: where it comes from

    @property
    def size(self) -> tuple[int, int]:
        return self.frames.shape[-2], self.frames.shape[-1]


@dataclass(frozen=True)
class ClipInfo:
    """A line of the index."""

    name: str
    shard: str
    frames: int
    size: tuple[int, int]  # height, width
    maps: tuple[str, ...]
    reference: bool
    fps: float
    notes: dict[str, str]


class ClipWriter:
    """Adds clips to a folder, new or begun earlier. Use as a context manager."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES, prefix: str = "shard"):
        self.folder, self.shard_bytes, self.prefix = Path(folder), shard_bytes, prefix
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clips = read_index(self.folder) if (self.folder / INDEX).exists() else []
        self.names = {info.name for info in self.clips}
        self._waiting: list[Clip] = []

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.flush()

    def add(self, clip: Clip) -> None:
        """Keep a clip until its shard is full; what is waiting is lost when the process is killed."""
        check_clip(clip)
        if clip.name in self.names:
            raise ValueError(f"clip {clip.name!r} is in {self.folder} already; clips need names of their own")
        self.names.add(clip.name)
        self._waiting.append(clip)
        if sum(_bytes(waiting) for waiting in self._waiting) >= self.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as a shard, then the index."""
        if not self._waiting:
            return
        shard = self._next_shard()
        tensors = {key: value for clip in self._waiting for key, value in _tensors(clip).items()}
        write_tensors(
            self.folder / shard, tensors, {"format": "magicportrait_clips", "version": str(VERSION)}
        )
        self.clips += [_info(clip, shard) for clip in self._waiting]
        self._waiting = []
        write_index(self.folder, self.clips)

    def _next_shard(self) -> str:
        taken = {info.shard for info in self.clips}
        number = 0
        while (name := f"{self.prefix}-{number:05d}.safetensors") in taken:
            number += 1
        return name


class ClipStore:
    """Random access to the clips of a folder; frames are read when they are asked for."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        if not (self.folder / INDEX).is_file():
            raise FileNotFoundError(
                f"{self.folder} has no {INDEX}; make the data with training.prepare_data or "
                "training.synthesize_data"
            )
        self.clips = read_index(self.folder)

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[ClipInfo]:
        return iter(self.clips)

    def read(self, number: int, frames: Sequence[int] | None = None) -> Clip:
        """Clip `number`, all of it or some frames. ValueError of one sentence for a damaged shard."""
        info = self.clips[number]
        path = self.folder / info.shard
        wanted = list(range(info.frames)) if frames is None else list(frames)
        try:
            with safe_open(path, framework="pt") as file:

                def some(part: str) -> Tensor:
                    whole = file.get_slice(f"{info.name}/{part}")
                    return torch.cat([whole[i : i + 1] for i in wanted])

                return Clip(
                    info.name,
                    some(FRAMES),
                    {name: some(name) for name in info.maps},
                    file.get_tensor(f"{info.name}/{REFERENCE}") if info.reference else None,
                    info.fps,
                    info.notes,
                )
        except (SafetensorError, OSError, KeyError, IndexError) as error:
            raise ValueError(
                f"{path} is damaged or missing ({str(error).splitlines()[0]}): delete it and run the script "
                "that made the data again"
            ) from error


def check_clip(clip: Clip) -> None:
    """Raises ValueError for a clip whose parts do not fit together."""
    frames, size = len(clip.frames), clip.size
    shapes = {FRAMES: (clip.frames, (frames, 3, *size))}
    shapes |= {name: (value, (frames, CHANNELS[name], *size)) for name, value in clip.maps.items()}
    if clip.reference is not None:
        shapes[REFERENCE] = (clip.reference, (3, *size))
    for name, (value, expected) in shapes.items():
        if tuple(value.shape) != expected or value.dtype != torch.uint8:
            raise ValueError(
                f"{name} of clip {clip.name!r} is {tuple(value.shape)} {value.dtype}, expected {expected} uint8"
            )


def read_index(folder: Path) -> list[ClipInfo]:
    """The clips of a folder, by its index."""
    path = folder / INDEX
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["version"] != VERSION:
            raise ValueError(f"version {values['version']}, this code reads {VERSION}")
        lines = [
            line | {"size": tuple(line["size"]), "maps": tuple(line["maps"])} for line in values["clips"]
        ]
        return [ClipInfo(**line) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); make the data again") from error


def write_index(folder: Path, clips: Sequence[ClipInfo]) -> None:
    """Replace the index of a folder at once."""
    part = folder / f".{INDEX}.{os.getpid()}.part"
    values = {"version": VERSION, "clips": [asdict(info) for info in clips]}
    part.write_text(json.dumps(values, indent=0), encoding="utf-8")
    os.replace(part, folder / INDEX)


def _info(clip: Clip, shard: str) -> ClipInfo:
    has_reference = clip.reference is not None
    return ClipInfo(
        clip.name, shard, len(clip.frames), clip.size, tuple(clip.maps), has_reference, clip.fps, clip.notes
    )


def _tensors(clip: Clip) -> dict[str, Tensor]:
    parts = {FRAMES: clip.frames, **clip.maps}
    if clip.reference is not None:
        parts[REFERENCE] = clip.reference
    return {f"{clip.name}/{name}": value for name, value in parts.items()}


def _bytes(clip: Clip) -> int:
    return sum(value.numel() for value in _tensors(clip).values())
