"""What prepare_data is asked for, and whether an output folder was made with the same."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.clip_store import CHANNELS, ENCODINGS, MIRRORED_X

OPTIONS_FILE, VERSION = "prepared.json", 1
FOR_MODELS = {  # maps that a model reads, and whether it needs a reference of its own
    "sd15": (("depth", "normal", "render", MIRRORED_X), False),
    "small": (("depth", "normal", "warp", "sources", MIRRORED_X), True),
}
WARPED = ("warp", "sources")  # maps that belong to a reference
FACE_SHARE = 352 / 1.5 / 512  # of the crop's side that the face's box is wide
SHARP_SIDE = 256  # pixels of the crop at which sharpness is measured, at most: finer detail is mostly noise
SHARPNESS = 0.004  # there: a face that was blurred by 2 % of its width (standard deviation) has less


@dataclass(frozen=True)
class Filters:
    """What a clip must be like; None or 0 turns a filter off where that says nothing else."""

    min_face: float | None = None  # pixels across the face in the video; None: half of what the crop shows
    min_sharpness: float | None = None  # see quality.sharpness; None: what looks blurred at the stored size
    max_error: float = 3.0  # mean landmark error of the fitted head, percent of the outer-eye distance
    min_presence: float = 0.5  # of the landmark network, in every frame
    min_motion: float = 0.005  # of the landmarks over the clip, root mean square in face widths
    max_outside: float = 0.5  # share of the crop that lies outside of the picture

    def __post_init__(self):
        for name in ("min_face", "min_sharpness", "max_error", "min_motion"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name}={value}; expected 0 or more")
        for name in ("min_presence", "max_outside"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}; expected 0 to 1")


@dataclass(frozen=True)
class PrepareOptions:
    """Everything that decides what the clips of a video are."""

    size: int = 512  # pixels, side of the stored pictures
    maps: tuple[str, ...] = FOR_MODELS["sd15"][0]
    clip_frames: int = 48
    min_frames: int = 12
    max_clips: int | None = None  # of one video, evenly spread over it; None: all
    fps: float | None = None  # videos are resampled to this rate; None: their own
    encoding: str = "jpeg"
    filters: Filters = field(default_factory=Filters)
    flame: str | None = None  # licensed files, all three or none: DECA and SMIRK track instead of landmarks
    deca: str | None = None
    smirk: str | None = None
    texture: str | None = None
    vae: str | None = None

    def __post_init__(self):
        unknown = [name for name in self.maps if name not in CHANNELS]
        if unknown or not self.maps:
            raise ValueError(f"maps={','.join(self.maps)}; expected some of {', '.join(CHANNELS)}")
        if not 64 <= self.size <= 2048 or self.size % 8:
            raise ValueError(f"size={self.size}; expected a multiple of 8 from 64 to 2048 pixels")
        if not 2 <= self.min_frames <= self.clip_frames:
            raise ValueError(
                f"min_frames={self.min_frames}, clip_frames={self.clip_frames}; expected 2 or more, and not "
                "more in the shortest clip than in the longest"
            )
        if self.max_clips is not None and self.max_clips < 1:
            raise ValueError(f"max_clips={self.max_clips}; expected 1 or more")
        if self.encoding not in ENCODINGS:
            raise ValueError(f"encoding={self.encoding!r}; expected one of {', '.join(ENCODINGS)}")
        licensed = (self.flame, self.deca, self.smirk)
        if any(licensed) and not all(licensed):
            raise ValueError("DECA and SMIRK need --flame, --deca and --smirk; give all three, or none")
        if self.flame and self.reference:
            raise ValueError(
                f"the maps {' and '.join(WARPED)} are made with the built-in head; leave out --flame"
            )
        if self.texture and not self.flame:
            raise ValueError("--texture is DECA's skin and needs --flame, --deca and --smirk")
        if self.vae and self.size % 64:
            raise ValueError(f"size={self.size}; latents need a multiple of 64 pixels")

    @property
    def reference(self) -> bool:
        """Whether a still picture of each clip is kept apart, which the warp is made from."""
        return any(name in WARPED for name in self.maps)

    @property
    def work_size(self) -> int:
        """Pixels, side of the square in which tracking, rendering and warping work."""
        return max(512, self.size)

    @property
    def min_sharpness(self) -> float:
        if self.filters.min_sharpness is not None:
            return self.filters.min_sharpness
        return SHARPNESS * (SHARP_SIDE / min(self.size, SHARP_SIDE)) ** 2

    @property
    def min_face(self) -> float:
        if self.filters.min_face is not None:
            return self.filters.min_face
        return round(self.size * FACE_SHARE / 2)


def claim_folder(folder: Path, options: PrepareOptions) -> None:
    """Make the folder ours, or see that it was made with the same options.

    ValueError of one sentence that names the first option that differs, OSError where it cannot be written.
    """
    path = folder / OPTIONS_FILE
    values = {"version": VERSION, **asdict(options)}
    values = json.loads(json.dumps(values))  # as it is read back
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        if known is None:
            _write(path, values)
    except OSError as error:
        raise OSError(
            f"{folder} cannot be written ({error.strerror or error}); choose another --output"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); choose another --output") from error
    if known is not None and known != values:
        raise ValueError(_difference(folder, known, values))


def _write(path: Path, values: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(values, indent=1), encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _difference(folder: Path, known: Any, values: dict[str, Any]) -> str:
    if not isinstance(known, dict) or known.get("version") != VERSION:
        return f"{folder} was made by another version of this script; choose another --output"
    before, now = ({**v, **v.get("filters", {})} for v in (known, values))
    name = next(name for name in now if name != "filters" and before.get(name) != now[name])
    option = "--" + name.replace("_", "-")
    return (
        f"{folder} was begun with {option} {_shown(before.get(name))}, now it is {_shown(now[name])}; give "
        "the same options to go on, or choose another --output"
    )


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
