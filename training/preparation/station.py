"""One video -> its clips, in two passes: faces first, then pictures and maps of what is worth it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from magicportrait_core.media.image import to_levels
from magicportrait_core.media.video import open_video
from magicportrait_core.tracking.released_crops import portrait_crop
from magicportrait_core.tracking.track_file import save_track
from training.clip_store import ClipWriter
from training.preparation.making import make_clip
from training.preparation.options import PrepareOptions
from training.preparation.passes import find_spans, pictures_of
from training.preparation.records import THUMBNAILS, TRACKS, ClipRecord, Job, VideoRecord, write_record
from training.preparation.sheets import crop_picture, save_sheet, sheet_of_clip, sheet_of_frames
from training.preparation.spans import Span, to_crop
from training.preparation.tools import Tools

Watch = Callable[[str], None]  # what is being done; may raise to stop
THUMBNAIL_SIDE = 128  # pixels at which dropped clips are cut out


class OutputError(OSError):
    """The output folder cannot be written: no use in trying the next video."""


class Stopped(Exception):
    """Someone asked for an end; what is complete is kept."""


@dataclass
class Station:
    """A worker's place: what it loaded, and where its clips go."""

    folder: Path
    options: PrepareOptions
    tools: Tools
    writer: ClipWriter

    def prepare(self, job: Job, watch: Watch) -> VideoRecord:
        """All clips of a video, in the store, and its record. OutputError when they cannot be written."""
        begun = time.monotonic()
        record = VideoRecord(job.name, job.shown, job.bytes)
        with _warnings() as notes:
            try:
                record = self._prepare(job, record, watch)
            except (OutputError, KeyboardInterrupt, Stopped) as error:
                if not isinstance(error, OutputError):
                    self.writer.flush()  # clips that are complete
                raise
            except (ValueError, OSError, RuntimeError, MemoryError) as error:
                text = (str(error) or type(error).__name__).splitlines()[0]
                record = replace(record, error=text)
        record = replace(record, seconds=round(time.monotonic() - begun, 2), notes=tuple(notes))
        with _output(self.folder):
            self.writer.flush()
            write_record(self.folder, record)
        return record

    def _prepare(self, job: Job, record: VideoRecord, watch: Watch) -> VideoRecord:
        with open_video(job.video, self.options.fps) as video:
            found = find_spans(video, self.tools, self.options, lambda n: watch(f"{job.shown}: frame {n}"))
            record = replace(record, frames=found.frames, fps=float(video.fps), shots=found.shots)
            clips = []
            for span, pictures in pictures_of(video, found.spans, self._cut):
                watch(f"{job.shown}: frames {span.start} to {span.stop - 1}")
                clips.append(self._clip(job, span, pictures, float(video.fps)))
        if not any(clip.kept or clip.reason != "no face" for clip in clips):
            record = replace(record, error="no face was found in it")
        return replace(record, clips=tuple(clips))

    def _clip(self, job: Job, span: Span, pictures: list[Tensor], fps: float) -> ClipRecord:
        name = f"{job.name}-{span.start:06d}"
        record = ClipRecord(name, span.start, span.stop, figures=span.figures or {})
        if span.fault is not None:
            self._save_dropped(name, pictures[0])
            return replace(record, reason=span.fault.reason, detail=span.fault.detail)
        if name in self.writer.names:
            return record  # of a run that was killed before the video was done
        side, crops = self.options.work_size, torch.stack(pictures)
        made = make_clip(self.tools, self.options, name, crops, to_crop(span.observations, span.box, side))
        record = replace(record, figures={**record.figures, **made.figures})
        if made.fault is not None:
            some = torch.linspace(0, len(crops) - 1, 3).round().long().tolist()
            self._save_dropped(name, torch.cat([crop_picture(crops[i]) for i in some]))
            return replace(record, reason=made.fault.reason, detail=made.fault.detail)
        notes = {"video": job.shown, "frames": f"{span.start}-{span.stop - 1}", **made.notes}
        clip = replace(made.clip, fps=fps, notes=notes)
        with _output(self.folder):
            save_sheet(sheet_of_clip(clip), self.folder / THUMBNAILS / f"{name}.jpg")
            save_track(made.track, self.folder / TRACKS / f"{name}.safetensors")
            if clip.reference is not None:
                path = self.folder / TRACKS / f"{name}.reference.safetensors"
                save_track(made.still_track, path)
            self.writer.add(clip)
        return record

    def _cut(self, span: Span, frame: Tensor) -> Tensor:
        """What is kept of a frame: levels (3, S, S) of the crop; of a faulty span a thumbnail in [-1, 1]."""
        if span.box is None:
            return frame[None]
        if span.fault is not None:
            return portrait_crop(frame, span.box, THUMBNAIL_SIDE)[None]
        crop = portrait_crop(frame.to(self.tools.device), span.box, self.options.work_size)
        return to_levels(crop).movedim(-1, 0).contiguous()

    def _save_dropped(self, name: str, frames: Tensor) -> None:
        with _output(self.folder):
            save_sheet(sheet_of_frames(frames), self.folder / THUMBNAILS / f"{name}.jpg")


@contextmanager
def _output(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if str(folder) in str(error):
            raise OutputError(str(error)) from error
        raise OutputError(f"{folder} cannot be written ({error}); free some space") from error


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What the library warns of meanwhile."""
    said: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler, logger = Collect(logging.WARNING), logging.getLogger("magicportrait")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
