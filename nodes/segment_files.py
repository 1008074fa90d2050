"""Save Segments and Load Segments: to carry a worker's part of a render to the machine that joins them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from comfy_api.latest import io

from . import host, saved_files
from .sockets import SegmentsSocket

if TYPE_CHECKING:
    from ..magicportrait_core.diffusion.segments import PortraitSegments

ENDING = f".segments{saved_files.EXTENSION}"
NO_SEGMENTS = "no saved segments yet"


class SaveSegments(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitSaveSegments",
            display_name="Save Segments",
            category="MagicPortrait/diffusion",
            description="Writes a sampler's segments into the output folder, to join them with those of "
            "other machines.",
            search_aliases=["export segments", "worker", "distributed", "save latents", "part of a render"],
            is_output_node=True,
            inputs=[
                SegmentsSocket.Input("segments", tooltip="From MagicPortrait Sampler."),
                io.String.Input(
                    "filename_prefix",
                    default=f"{saved_files.SUBFOLDER}/segments",
                    tooltip="Start of the file name inside the output folder; a number is added. Keep the "
                    "folder 'magicportrait' so that Load Segments lists the file.",
                ),
            ],
            outputs=[
                SegmentsSocket.Output("segments", tooltip="The same segments, to go on with."),
                io.String.Output("path", tooltip="Where the file was written."),
            ],
        )

    @classmethod
    def execute(cls, segments: PortraitSegments, filename_prefix: str) -> io.NodeOutput:
        from ..magicportrait_core.diffusion.segment_files import save_segments

        path, shown = saved_files.new_path(filename_prefix, ENDING)
        save_segments(segments, path)
        return io.NodeOutput(segments, str(path), ui=host.show_text(f"{shown}: {describe(segments)}"))


class LoadSegments(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitLoadSegments",
            display_name="Load Segments",
            category="MagicPortrait/diffusion",
            description="Reads segments saved by Save Segments, from the output or input folder.",
            search_aliases=["import segments", "worker", "distributed", "load latents", "join workers"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=saved_files.choices(ENDING) or [NO_SEGMENTS],
                    tooltip="Segments in input/, input/magicportrait/ and output/magicportrait/. Copy a file "
                    "there and press R to see it.",
                ),
            ],
            outputs=[
                SegmentsSocket.Output("segments", tooltip="For Temporal Aggregate."),
                io.String.Output("report", tooltip="Which frames of which clip these are."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        try:
            if file is not None:
                segments_path(file)
        except FileNotFoundError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None) -> str:
        try:
            return f"{file} {segments_path(file).stat().st_mtime}" if file else ""
        except FileNotFoundError:
            return f"{file} missing"

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        from ..magicportrait_core.diffusion.segment_files import load_segments

        segments = load_segments(segments_path(file))
        report = describe(segments)
        return io.NodeOutput(segments, report, ui=host.show_text(report))


def segments_path(name: str) -> Path:
    """The file of a listed name; FileNotFoundError is for the user."""
    if name == NO_SEGMENTS:
        raise saved_files.nothing_saved("file of segments", "Save Segments")
    return saved_files.find(name, "File of segments")


def describe(segments: PortraitSegments) -> str:
    """One line about segments."""
    frames = sorted({frame for window in segments.frames for frame in window})
    height, width = segments.latents[0].shape[-2:]
    count = len(segments.frames)
    return (
        f"{count} segment{'s' * (count != 1)} with {len(frames)} of the clip's {segments.num_frames} frames "
        f"({frames[0]} to {frames[-1]}), {width}x{height} latent cells"
    )
