"""Clips and portraits as they are measured: one shot of one person, cut to the face, tracked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from magicportrait_core.head.assets import load_head
from magicportrait_core.head.model import HeadModel
from magicportrait_core.media.image import from_levels, load_image, resize, to_levels
from magicportrait_core.media.video import open_video
from magicportrait_core.tracking.following import follow_face
from magicportrait_core.tracking.landmarker import Landmarker, load_landmarker
from magicportrait_core.tracking.observation import FaceObservations
from magicportrait_core.tracking.report import suspected_cuts
from magicportrait_core.tracking.track import FaceTrack
from magicportrait_core.tracking.tracker import track_face

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
CROP_WIDTH = 2.18  # of the face's width, the released rule (facts d.2)
CROP_ROOM = 1.25  # of all the places where the face goes
LARGEST_SIDE = 512  # pixels of a crop
FEWEST_FRAMES = 8

OnStage = Callable[[str], None]  # what is done now, for people; may raise to stop


def ignore(*_: Any) -> None:
    """A callback for those who need none."""


@dataclass(frozen=True)
class Tools:
    """The pack's tracker."""

    head: HeadModel
    landmarker: Landmarker

    @classmethod
    def load(cls, device: torch.device | str = "cpu") -> Tools:
        return cls(load_head(), load_landmarker(device=device))

    def track(self, frames: Tensor, fps: float) -> FaceTrack:
        """Of frames (F, 3, H, W) uint8; ValueError where no face is found."""
        return track_face(pictures(frames), self.landmarker, self.head, fps)


@dataclass(frozen=True)
class Footage:
    """A clip, or a portrait, which is a clip of one frame."""

    name: str
    frames: Tensor  # (F, 3, H, W) uint8
    fps: float  # 0 of a portrait
    track: FaceTrack

    def __getitem__(self, frame: int) -> Footage:
        """One frame as a portrait."""
        return Footage(
            self.name, self.frames[frame : frame + 1], 0.0, replace(self.track[frame : frame + 1], fps=0.0)
        )

    def only(self, frames: Sequence[int]) -> Footage:
        """Some frames of a clip, as a clip that lasts as long."""
        chosen = torch.tensor(frames)
        fps = self.fps * len(chosen) / len(self.frames)
        return Footage(self.name, self.frames[chosen], fps, replace(self.track[chosen], fps=fps))


def read_clip(
    path: Path,
    tools: Tools,
    max_frames: int | None = None,
    crop: bool = True,  # cut to the square around the face
    on_stage: OnStage = ignore,
    fps: float | None = None,  # None: the video's own
    spread: int | None = None,  # of a longer clip, every second, third ... frame: about so many
) -> Footage:
    """The first shot of a video in which one face is seen in FEWEST_FRAMES frames or more.

    Raises ValueError or OSError with one sentence for a video without such a shot.
    """
    on_stage("reading")
    with open_video(path, fps, max_frames=max_frames) as video:
        step = -(-video.num_frames // spread) if spread and video.num_frames else 1
        kept = [levels(frame) for frame in islice(video, 0, None, step)]
        frames, fps = torch.stack(kept), float(video.fps) / step
    if crop:
        on_stage("finding the face")
        seen = follow_face(pictures(frames), tools.landmarker, fps=fps)
        shot = first_shot(seen)
        frames = cut_square(frames[shot], face_square(seen[shot]))
    on_stage("tracking")
    track = tools.track(frames, fps)
    parts = shots(track.found.tolist(), suspected_cuts(track))
    if not parts or parts[0].stop - parts[0].start < FEWEST_FRAMES:
        raise ValueError(
            f"{path.name} has no {FEWEST_FRAMES} frames in a row that show one face; use clips without cuts "
            "in which the face stays visible"
        )
    return Footage(path.stem, frames[parts[0]], fps, track[parts[0]])


def read_portrait(path: Path, tools: Tools, crop: bool = True, on_stage: OnStage = ignore) -> Footage:
    """A picture of one person. Raises ValueError or OSError with one sentence where there is no face."""
    on_stage("reading")
    frames = levels(load_image(path))[None]
    if crop:
        seen = follow_face(pictures(frames), tools.landmarker)
        if not bool(seen.found.any()):
            raise ValueError(f"no face was found in {path.name}; use a picture of one person")
        frames = cut_square(frames, face_square(seen))
    return Footage(path.stem, frames, 0.0, tools.track(frames, 0.0))


def shots(found: list[bool], cuts: list[int]) -> list[slice]:
    """Runs of frames with a face and without a cut in order, those shorter than FEWEST_FRAMES last."""
    runs, start = [], None
    for i, seen in enumerate([*found, False]):
        if start is not None and (not seen or i in cuts):
            runs.append(slice(start, i))
            start = None
        if seen and start is None:
            start = i
    return sorted(runs, key=lambda run: run.stop - run.start < FEWEST_FRAMES)


def first_shot(seen: FaceObservations) -> slice:
    """From the first frame with a face to the last one; the whole clip where there is none."""
    where = seen.found.nonzero().flatten().tolist()
    return slice(where[0], where[-1] + 1) if where else slice(0, seen.num_frames)


def face_square(seen: FaceObservations) -> tuple[int, int, int]:
    """left, top and side of a square for a whole clip, pixels within the picture: the released crop around
    the middle of the places where the face goes, wider where the face goes far."""
    points = seen.points[seen.found, :, :2]
    low, high = points.amin((0, 1)), points.amax((0, 1))
    width = float((points.amax(1) - points.amin(1))[:, 0].median())
    height, across = seen.size
    side = min(max(CROP_WIDTH * width, CROP_ROOM * float((high - low).max())), height, across)
    side = max(2, int(side) // 2 * 2)
    x, y = ((low + high) / 2).tolist()
    left = round(min(max(x - side / 2, 0), across - side))
    top = round(min(max(y - side / 2, 0), height - side))
    return left, top, side


def cut_square(
    frames: Tensor,  # (F, 3, H, W) uint8
    square: tuple[int, int, int],
) -> Tensor:  # (F, 3, side, side) uint8, at most LARGEST_SIDE
    left, top, side = square
    cut = frames[..., top : top + side, left : left + side]
    if side <= LARGEST_SIDE:
        return cut.contiguous()
    return torch.stack([levels(resize(picture, (LARGEST_SIDE, LARGEST_SIDE))) for picture in pictures(cut)])


def pictures(frames: Tensor) -> Iterator[Tensor]:
    """Frames (F, 3, H, W) uint8, one by one as (3, H, W) in [-1, 1]."""
    return (from_levels(frame.movedim(0, -1)) for frame in frames)


def levels(picture: Tensor) -> Tensor:
    """(3, H, W) in [-1, 1] -> (3, H, W) uint8."""
    return to_levels(picture).movedim(-1, 0)
