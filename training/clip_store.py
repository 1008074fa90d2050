"""Training clips in shards: safetensors files with an index beside them.

A folder holds index.json and shard-00000.safetensors and so on. A clip is some frames, guidance maps for each
of them and, for warp-preconditioned models, the still picture that its warp was made from. All are 8-bit
levels, stored as they are or as pictures (see ENCODINGS). The index is written after each shard, both whole
or not at all: a stopped writer goes on with the clips that the index does not name. Several processes may
write into one folder, each with a prefix of its own; merge_indices joins what they left.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from magicportrait_core.tensor_files import write_tensors
from training.clip_index import (
    FORMAT,
    INDEX,
    PREFIX,
    VERSION,
    ClipInfo,
    Index,
    index_files,
    index_name,
    merge_indices,
    read_index,
    read_index_file,
    shard_info,
    verify,
    whole_part,
    write_index,
)
from training.picture_codec import decode, encode

__all__ = [
    "CHANNELS",
    "ENCODINGS",
    "INDEX",
    "MIRRORED_X",
    "Clip",
    "ClipInfo",
    "ClipStore",
    "ClipWriter",
    "check_clip",
    "merge_indices",
    "read_index",
    "verify",
    "write_index",
]

MIRRORED_X = "normal_left"  # of the normals, max(-x, 0): what is their red in a mirrored picture
CHANNELS = {"depth": 1, "normal": 3, "render": 3, "warp": 3, "sources": 1, MIRRORED_X: 1}  # as stored
SHARD_BYTES = 256 * 2**20
OPEN_SHARDS = 256  # files a thread keeps open; they are mapped, which costs addresses only
REFERENCE, FRAMES, LATENTS, REFERENCE_LATENTS = "reference", "frames", "latents", "reference_latents"
PHOTOS = (FRAMES, REFERENCE, "warp")
ENCODINGS: Mapping[str, tuple[str, str] | None] = {  # of photos, of maps
    "raw": None,  # 4 to 11 bytes a pixel, nothing to decode: for small pictures
    "lossless": ("webp", "png"),  # about a third of raw
    "jpeg": ("jpeg", "png"),  # about a tenth of raw
}


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
    latents: Tensor | None = None  # (F, C, h, w) float16, of the frames by a VAE, in the network's scale
    reference_latents: Tensor | None = None  # (C, h, w) float16, where there is a reference

    @property
    def size(self) -> tuple[int, int]:
        return self.frames.shape[-2], self.frames.shape[-1]


class ClipWriter:
    """Adds clips to a folder, new or begun earlier. Use as a context manager.

    `names` are those of all clips in the folder. Clips whose shard is gone or cut short are forgotten, so
    that they can be added again. Raises ValueError for a folder with another kind of index, OSError where
    it cannot be written, both with one sentence.
    """

    def __init__(
        self,
        folder: Path,
        shard_bytes: int = SHARD_BYTES,
        prefix: str = PREFIX,  # writers at the same time need prefixes of their own
        encoding: str = "raw",  # of ENCODINGS
    ):
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding={encoding!r}; expected one of {', '.join(ENCODINGS)}")
        self.folder, self.shard_bytes, self.prefix = Path(folder), shard_bytes, prefix
        self.encoding = encoding
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"{folder} cannot be made ({error.strerror}); choose another folder for the data"
            ) from error
        own = self.folder / index_name(prefix)
        begun = whole_part(self.folder, read_index_file(own) if own.is_file() else Index())
        self.clips, self.shards = list(begun.clips), dict(begun.shards)
        others = [path for path in index_files(self.folder) if path != own]
        parts = [begun, *(whole_part(self.folder, read_index_file(path)) for path in others)]
        self.names = {clip.name for part in parts for clip in part.clips}
        self._taken = {clip.shard for part in parts for clip in part.clips}
        self._waiting: list[tuple[Clip, dict[str, Tensor]]] = []
        self._remove_parts()

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
        self._waiting.append((clip, _tensors(clip, self.encoding)))
        if sum(_bytes(tensors) for _, tensors in self._waiting) >= self.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as a shard, then the index."""
        if not self._waiting:
            return
        shard = self._next_shard()
        tensors = {key: value for _, parts in self._waiting for key, value in parts.items()}
        write_tensors(self.folder / shard, tensors, {"format": FORMAT, "version": str(VERSION)})
        self.clips += [_info(clip, shard, self.encoding) for clip, _ in self._waiting]
        self.shards[shard] = shard_info(self.folder / shard)
        self._waiting = []
        write_index(self.folder, self.clips, self.shards, self.prefix)

    def _next_shard(self) -> str:
        number = 0
        while (name := f"{self.prefix}-{number:05d}.safetensors") in self._taken:
            number += 1
        self._taken.add(name)
        return name

    def _remove_parts(self) -> None:
        """What a killed writer of this prefix left half-written."""
        digits = "[0-9]" * 5
        for part in self.folder.glob(f".{self.prefix}-{digits}.safetensors.*.part"):
            part.unlink(missing_ok=True)


class ClipStore:
    """Random access to the clips of a folder; frames are read when they are asked for.

    May be used by several threads and processes, and sent to other processes: each opens its own files.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        if not index_files(self.folder):
            raise FileNotFoundError(
                f"{self.folder} has no {INDEX}; make the data with training.prepare_data or "
                "training.synthesize_data"
            )
        self.clips = read_index(self.folder)
        self._open = _OpenShards()

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[ClipInfo]:
        return iter(self.clips)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _open=_OpenShards())

    def read(
        self, number: int, frames: Sequence[int] | None = None, maps: Sequence[str] | None = None
    ) -> Clip:
        """Clip `number`, all of it or some frames and maps. Raises IndexError for frames and ValueError for
        maps that the clip lacks, and ValueError of one sentence for a damaged shard."""
        info = self.clips[number]
        path = self.folder / info.shard
        wanted = list(range(info.frames)) if frames is None else list(frames)
        wrong = [frame for frame in wanted if not 0 <= frame < info.frames]
        if wrong or not wanted:
            raise IndexError(
                f"frame {wrong[0] if wrong else 'none'} of clip {info.name!r}; expected some of 0 to "
                f"{info.frames - 1}"
            )
        maps = info.maps if maps is None else maps
        lacking = [name for name in maps if name not in info.maps]
        if lacking:
            raise ValueError(f"clip {info.name!r} has no map {lacking[0]!r}; it has {', '.join(info.maps)}")
        try:
            return _read(self._open.file(path), info, wanted, maps)
        except (SafetensorError, OSError, ValueError, IndexError) as error:
            raise ValueError(
                f"{path} is damaged or missing ({str(error).splitlines()[0]}): delete it and run the script "
                "that made the data again"
            ) from error


class _OpenShards(threading.local):
    """Files kept open by a thread; a process that was forked opens them again."""

    def __init__(self):
        self.process, self.files = os.getpid(), {}

    def file(self, path: Path) -> Any:
        if self.process != os.getpid():
            self.__init__()
        file = self.files.pop(path, None)
        if file is None:
            file = safe_open(path, framework="pt").__enter__()
            if len(self.files) >= OPEN_SHARDS:
                self.files.pop(next(iter(self.files)))  # the one that was not used for longest
        self.files[path] = file
        return file


def _read(file: Any, info: ClipInfo, wanted: list[int], maps: Sequence[str]) -> Clip:
    def some(part: str, channels: int = 0) -> Tensor:
        whole = file.get_slice(f"{info.name}/{part}")
        if part in info.formats:
            return decode(whole, info.frames, wanted, channels)
        return torch.cat([whole[i : i + 1] for i in wanted])

    def single(part: str, channels: int = 0) -> Tensor:
        whole = file.get_slice(f"{info.name}/{part}")
        return decode(whole, 1, [0], channels)[0] if part in info.formats else whole[:]

    return Clip(
        info.name,
        some(FRAMES, 3),
        {name: some(name, CHANNELS[name]) for name in maps},
        single(REFERENCE, 3) if info.reference else None,
        info.fps,
        info.notes,
        some(LATENTS) if info.latents else None,
        single(REFERENCE_LATENTS) if info.latents and info.reference else None,
    )


def check_clip(clip: Clip) -> None:
    """Raises ValueError for a clip whose parts do not fit together."""
    frames, size = len(clip.frames), clip.size
    unknown = set(clip.maps) - set(CHANNELS)
    if unknown:
        raise ValueError(
            f"map {min(unknown)!r} of clip {clip.name!r} is not known; expected {', '.join(CHANNELS)}"
        )
    shapes = {FRAMES: (clip.frames, (frames, 3, *size))}
    shapes |= {name: (value, (frames, CHANNELS[name], *size)) for name, value in clip.maps.items()}
    if clip.reference is not None:
        shapes[REFERENCE] = (clip.reference, (3, *size))
    for name, (value, expected) in shapes.items():
        if tuple(value.shape) != expected or value.dtype != torch.uint8:
            raise ValueError(
                f"{name} of clip {clip.name!r} is {tuple(value.shape)} {value.dtype}, expected "
                f"{expected} uint8"
            )
    if clip.latents is not None:
        _check_latents(clip)


def _check_latents(clip: Clip) -> None:
    reference, shape = clip.reference_latents, tuple(clip.latents.shape)
    fits = len(shape) == 4 and shape[0] == len(clip.frames) and clip.latents.dtype == torch.float16
    if not fits or (reference is None) != (clip.reference is None):
        raise ValueError(
            f"latents of clip {clip.name!r} are {shape} {clip.latents.dtype}, expected one (C, h, w) float16 "
            f"for each of {len(clip.frames)} frames, and of the reference where there is one"
        )
    if reference is not None and (tuple(reference.shape) != shape[1:] or reference.dtype != torch.float16):
        raise ValueError(
            f"reference_latents of clip {clip.name!r} are {tuple(reference.shape)} {reference.dtype}, "
            f"expected {shape[1:]} float16"
        )


def _info(clip: Clip, shard: str, encoding: str) -> ClipInfo:
    return ClipInfo(
        name=clip.name,
        shard=shard,
        frames=len(clip.frames),
        size=clip.size,
        maps=tuple(clip.maps),
        reference=clip.reference is not None,
        fps=clip.fps,
        notes=clip.notes,
        formats=_formats(clip, encoding),
        latents=clip.latents is not None,
    )


def _formats(clip: Clip, encoding: str) -> dict[str, str]:
    """The picture format of every part that has one."""
    chosen = ENCODINGS[encoding]
    if chosen is None:
        return {}
    parts = [FRAMES, *clip.maps] + [REFERENCE] * (clip.reference is not None)
    return {part: chosen[part not in PHOTOS] for part in parts}


def _tensors(clip: Clip, encoding: str) -> dict[str, Tensor]:
    """What is written of a clip, by name."""
    parts = {FRAMES: clip.frames, **clip.maps}
    optional = {
        REFERENCE: clip.reference,
        LATENTS: clip.latents,
        REFERENCE_LATENTS: clip.reference_latents,
    }
    parts |= {name: value for name, value in optional.items() if value is not None}
    for name, format in _formats(clip, encoding).items():
        value = parts[name]
        parts[name] = encode(value if value.ndim == 4 else value[None], format)
    return {f"{clip.name}/{name}": value for name, value in parts.items()}


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors.values())
