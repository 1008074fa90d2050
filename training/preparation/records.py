"""What became of each video, as JSON files in the output folder: a video with a record is done."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

RECORDS, THUMBNAILS, TRACKS = "videos", "thumbnails", "tracks"


@dataclass(frozen=True)
class Job:
    """One video to prepare."""

    video: Path
    name: str  # of its clips and files, unique
    shown: str  # path within the given folder, for people
    bytes: int


@dataclass(frozen=True)
class ClipRecord:
    name: str
    start: int  # frames of the video, [start, stop)
    stop: int
    reason: str = ""  # why it was dropped, a few words; "" for a clip that was kept
    detail: str = ""
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class VideoRecord:
    name: str
    shown: str
    bytes: int
    frames: int = 0
    fps: float = 0.0
    shots: int = 0
    seconds: float = 0.0  # of work
    error: str = ""  # one sentence, when the video could not be used
    again: bool = False  # not the video's fault: the next run tries again
    notes: tuple[str, ...] = ()
    clips: tuple[ClipRecord, ...] = ()

    @property
    def kept(self) -> list[ClipRecord]:
        return [clip for clip in self.clips if clip.kept]

    def in_a_line(self) -> str:
        """For the terminal."""
        if self.error:
            return f"{self.shown}: {self.error}"
        frames = sum(clip.stop - clip.start for clip in self.kept)
        text = f"{self.shown}: {len(self.kept)} clips ({frames} of {self.frames} frames)"
        dropped = Counter(clip.reason for clip in self.clips if not clip.kept)
        if dropped:
            text += ", dropped " + ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        return f"{text}, {self.seconds:.0f} s"


def write_record(folder: Path, record: VideoRecord) -> None:
    path = folder / RECORDS / f"{record.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_record(folder: Path, name: str) -> VideoRecord | None:
    """None where there is none, or one that cannot be read: the video is then prepared again."""
    path = folder / RECORDS / f"{name}.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        clips = tuple(ClipRecord(**clip) for clip in values.pop("clips"))
        return VideoRecord(**{**values, "notes": tuple(values["notes"])}, clips=clips)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def unfinished(folder: Path, jobs: Sequence[Job], there: Iterable[str]) -> list[Job]:
    """Jobs without a record, and those whose clips are gone. `there` names the clips of the store.

    Raises ValueError for a video that is another file than the one that was prepared.
    """
    there, out = set(there), []
    for job in jobs:
        record = read_record(folder, job.name)
        if record is not None and record.bytes != job.bytes:
            raise ValueError(
                f"{job.shown} has {job.bytes} bytes, and {record.bytes} when it was prepared; rename the new "
                "video, or choose another --output"
            )
        if record is None or record.again or any(clip.name not in there for clip in record.kept):
            out.append(job)
    return out


def names_of(paths: Sequence[str]) -> list[str]:
    """File names for relative paths, each of its own: most differ in what a file name may hold."""
    plain = [re.sub(r"[^\w.-]+", "_", path) for path in paths]
    count = Counter(name.lower() for name in plain)
    return [
        name if count[name.lower()] == 1 else f"{name}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"
        for name, path in zip(plain, paths, strict=True)
    ]
