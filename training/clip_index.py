"""The index of a clip store: which clips there are, in which shards, and what those should look like.

A folder has index.json, or an index-<prefix>.json of each of several writers, or both. An index only names
shards that are complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open

INDEX, PREFIX = "index.json", "shard"
FORMAT, VERSION = "magicportrait_clips", 1
READ_AT_ONCE = 2**22  # bytes


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
    formats: dict[str, str] = field(default_factory=dict)  # by part: those stored as pictures of FORMATS
    latents: bool = False


@dataclass(frozen=True)
class ShardInfo:
    """What a shard was when it was written."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Index:
    clips: tuple[ClipInfo, ...] = ()
    shards: Mapping[str, ShardInfo] = field(default_factory=dict)


def index_name(prefix: str) -> str:
    """The index of the writer whose shards begin with `prefix`."""
    return INDEX if prefix == PREFIX else f"index-{prefix}.json"


def index_files(folder: Path) -> list[Path]:
    own = [folder / INDEX] if (folder / INDEX).is_file() else []
    return own + sorted(folder.glob("index-*.json"))


def read_index(folder: Path) -> list[ClipInfo]:
    """The clips of a folder, of all its writers. In the order they were added, of several writers by name."""
    return list(read_whole_index(folder).clips)


def read_whole_index(folder: Path) -> Index:
    files = index_files(folder)
    parts = [read_index_file(path) for path in files]
    if len(parts) == 1:
        return parts[0]
    clips: dict[str, ClipInfo] = {}
    for path, part in zip(files, parts, strict=True):
        there = {clip.shard for clip in whole_part(folder, part).clips}
        for clip in part.clips:
            known = clips.get(clip.name)
            if known is None or not (folder / known.shard).is_file():
                clips[clip.name] = clip
            elif clip.shard in there and known != clip:
                raise ValueError(
                    f"{path} names clip {clip.name!r}, which another index of the folder has too; writers "
                    "of one folder need clip names of their own"
                )
    shards = {name: shard for part in parts for name, shard in part.shards.items()}
    return Index(tuple(clips[name] for name in sorted(clips)), shards)


def read_index_file(path: Path) -> Index:
    """ValueError of one sentence for a foreign or damaged file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or "clips" not in values or "version" not in values:
            raise ValueError("not an index of clips")
        if values["version"] != VERSION:
            raise ValueError(f"version {values['version']}, this code reads {VERSION}")
        lines = [
            line | {"size": tuple(line["size"]), "maps": tuple(line["maps"])} for line in values["clips"]
        ]
        shards = {name: ShardInfo(**shard) for name, shard in values.get("shards", {}).items()}
        return Index(tuple(ClipInfo(**line) for line in lines), shards)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); make the data again in another folder") from error


def write_index(
    folder: Path,
    clips: Sequence[ClipInfo],
    shards: Mapping[str, ShardInfo] | None = None,
    prefix: str = PREFIX,
) -> None:
    """Replace the index of a writer at once. OSError of one sentence, as for a full disk."""
    path = folder / index_name(prefix)
    part = folder / f".{path.name}.{os.getpid()}.part"
    values = {
        "format": FORMAT,
        "version": VERSION,
        "clips": [asdict(info) for info in clips],
        "shards": {name: asdict(info) for name, info in (shards or {}).items()},
    }
    try:
        try:
            with part.open("w", encoding="utf-8") as file:
                json.dump(values, file, indent=0)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error}); free some space or choose another folder"
        ) from error


def merge_indices(folder: Path) -> None:
    """One index for the shards of all writers, who must have ended. A kill in between loses nothing."""
    files = [path for path in index_files(folder) if path.name != INDEX]
    if not files:
        return
    whole = read_whole_index(folder)
    write_index(folder, sorted(whole.clips, key=lambda clip: clip.name), whole.shards)
    for path in files:
        path.unlink(missing_ok=True)


def verify(folder: Path, hashes: bool = True) -> list[str]:
    """What is wrong with the shards of a store, one sentence each; [] for a whole store.

    Looks at sizes and headers, and with `hashes` at every byte.
    """
    index = read_whole_index(folder)
    used: dict[str, list[ClipInfo]] = {}
    for clip in index.clips:
        used.setdefault(clip.shard, []).append(clip)
    faults = []
    for name, clips in sorted(used.items()):
        fault = _fault(folder / name, clips, index.shards.get(name), hashes)
        if fault:
            faults.append(
                f"{folder / name} ({len(clips)} clips) {fault}; delete it and run the script that made the "
                "data again"
            )
    return faults


def shard_info(path: Path) -> ShardInfo:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(READ_AT_ONCE):
            digest.update(part)
    return ShardInfo(path.stat().st_size, digest.hexdigest())


def whole_part(folder: Path, index: Index) -> Index:
    """An index without the shards that are gone or not of the size they were written."""
    whole = set()
    for name in {clip.shard for clip in index.clips}:
        known, path = index.shards.get(name), folder / name
        if path.is_file() and (known is None or path.stat().st_size == known.bytes):
            whole.add(name)
    return Index(
        tuple(clip for clip in index.clips if clip.shard in whole),
        {name: info for name, info in index.shards.items() if name in whole},
    )


def _fault(path: Path, clips: Sequence[ClipInfo], known: ShardInfo | None, hashes: bool) -> str | None:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if known is not None and size != known.bytes:
        return f"has {size} bytes, {known.bytes} were written"
    try:
        with safe_open(path, framework="pt") as file:
            metadata, keys = file.metadata() or {}, set(file.keys())
    except (SafetensorError, OSError) as error:
        return f"cannot be read ({str(error).splitlines()[0]})"
    if metadata.get("format") != FORMAT:
        return f"is not a shard of clips (its format is {metadata.get('format', 'not stated')!r})"
    lacking = [f"{clip.name}/{part}" for clip in clips for part in parts_of(clip)]
    lacking = [key for key in lacking if key not in keys]
    if lacking:
        return f"lacks {lacking[0]}"
    if hashes and known is not None and shard_info(path).sha256 != known.sha256:
        return "is not as it was written (another checksum)"
    return None


def parts_of(clip: ClipInfo) -> list[str]:
    """Names of the tensors of a clip."""
    optional = {"reference": clip.reference, "latents": clip.latents}
    optional["reference_latents"] = clip.reference and clip.latents
    return ["frames", *clip.maps, *(name for name, there in optional.items() if there)]
