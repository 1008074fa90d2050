"""Save Track and Load Track: tracks as files that people keep, edit and share."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from . import host, saved_files
from .segment_files import ENDING as SEGMENTS
from .sockets import FaceTrackSocket, HeadTrack, HeadTracker, HeadTrackerSocket

NO_TRACKS = "no saved tracks yet"


class SaveTrack(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitSaveTrack",
            display_name="Save Track",
            category="MagicPortrait/tracking",
            description="Writes a face track into the output folder as safetensors: numbers only, safe to "
            "share.",
            search_aliases=[
                "export track",
                "save motion",
                "save expression",
                "save face track",
                "flame parameters",
            ],
            is_output_node=True,
            inputs=[
                FaceTrackSocket.Input("track", tooltip="Any face track: driving, portrait or aligned."),
                io.String.Input(
                    "filename_prefix",
                    default=f"{saved_files.SUBFOLDER}/track",
                    tooltip="Start of the file name inside the output folder; a number is added. "
                    "%date:yyyy-MM-dd% and the like are filled in. Keep the folder 'magicportrait' so that "
                    "Load Track lists the file.",
                ),
            ],
            outputs=[
                FaceTrackSocket.Output("track", tooltip="The same track, to go on with."),
                io.String.Output("path", tooltip="Where the file was written."),
            ],
        )

    @classmethod
    def execute(cls, track: HeadTrack, filename_prefix: str) -> io.NodeOutput:
        from ..magicportrait_core.tracking.track_file import save_track

        path, shown = saved_files.new_path(filename_prefix, saved_files.EXTENSION)
        save_track(track.track, path)
        return io.NodeOutput(track, str(path), ui=host.show_text(f"{shown}: {describe(track)}"))


class LoadTrack(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitLoadTrack",
            display_name="Load Track",
            category="MagicPortrait/tracking",
            description="Reads a face track saved by Save Track, from the output or input folder.",
            search_aliases=[
                "import track",
                "load motion",
                "load expression",
                "load face track",
                "motion template",
            ],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=track_choices(),
                    tooltip="Tracks in input/, input/magicportrait/ and output/magicportrait/. Copy a file "
                    "there and press R to see it.",
                ),
                HeadTrackerSocket.Input(
                    "head_tracker",
                    optional=True,
                    tooltip="Needed for tracks of a FLAME head, which is not built in. Tracks of the "
                    "built-in head need nothing.",
                ),
            ],
            outputs=[
                FaceTrackSocket.Output("track", tooltip="The track with its head."),
                io.Float.Output("fps", tooltip="Frames per second of the track, for Create Video."),
                io.String.Output("report", tooltip="Frames, rate and quality of the track."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        try:
            if file is not None:
                track_path(file)
        except FileNotFoundError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None, **_) -> str:
        try:
            return f"{file} {track_path(file).stat().st_mtime}" if file else ""
        except FileNotFoundError:
            return f"{file} missing"

    @classmethod
    def execute(cls, file: str, head_tracker: HeadTracker | None = None) -> io.NodeOutput:
        track = read_track(track_path(file), head_tracker)
        report = describe(track)
        return io.NodeOutput(track, float(track.track.fps), report, ui=host.show_text(report))


def track_choices() -> list[str]:
    """Listed tracks; files of segments, which lie beside them, are not tracks."""
    return saved_files.choices(saved_files.EXTENSION, without=SEGMENTS) or [NO_TRACKS]


def track_path(name: str) -> Path:
    """The file of a listed name, inside the input or output folder; FileNotFoundError is for the user."""
    if name == NO_TRACKS:
        raise saved_files.nothing_saved("track", "Save Track")
    return saved_files.find(name, "Track")


def read_track(path: Path, tracker: HeadTracker | None) -> HeadTrack:
    """The track in a file with the head it belongs to; a ValueError when that head is not at hand."""
    from ..magicportrait_core.head.assets import OPEN_HEAD, load_head
    from ..magicportrait_core.tracking.track_file import load_track

    with host.ordinary_tensors():
        if tracker is not None:
            return tracker.with_head(load_track(path, tracker.head))
        track = load_track(path)
        if track.head != OPEN_HEAD:
            raise ValueError(
                f"{path.name} was made with the head {track.head!r}, which is not built in: connect a Load "
                "FLAME Tracker that loads this head to head_tracker."
            )
        return HeadTrack(load_head(OPEN_HEAD), load_track(path, load_head(OPEN_HEAD)))


def describe(track: HeadTrack) -> str:
    """One line about a track."""
    frames, (height, width) = track.track.num_frames, track.track.size
    missing = int((~track.track.found).sum())
    rate = f" at {track.track.fps:.6g} fps" if track.track.fps else ""
    return f"{frames} frame{'s' * (frames != 1)}{rate}, head {track.track.head}, picture {width}x{height}" + (
        f", {missing} filled in" if missing else ""
    )
