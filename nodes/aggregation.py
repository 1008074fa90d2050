"""Temporal Aggregate: segments become one timeline of latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.model_management
from comfy_api.latest import io

from .sockets import SegmentsSocket

if TYPE_CHECKING:
    from ..magicportrait_core.diffusion.segments import PortraitSegments

SEGMENTS = "segments"
MOST_INPUTS = 64
BLENDS = ("linear", "mean")


class TemporalAggregate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitTemporalAggregate",
            display_name="Temporal Aggregate",
            category="MagicPortrait/diffusion",
            description="Lays the segments of one or several samplers onto the timeline and blends where "
            "they overlap. The latents go to Decode Portrait, or to VAE Decode where the model has a VAE.",
            search_aliases=[
                "merge segments",
                "join workers",
                "blend windows",
                "overlap",
                "combine latents",
                "long video",
            ],
            inputs=[
                io.Autogrow.Input(
                    SEGMENTS,
                    template=io.Autogrow.TemplatePrefix(
                        SegmentsSocket.Input(SEGMENTS), prefix=SEGMENTS, min=1, max=MOST_INPUTS
                    ),
                    tooltip="From MagicPortrait Sampler or Load Segments; together they must cover every "
                    "frame. A new socket appears when the last one is connected.",
                ),
                io.Combo.Input(
                    "blend",
                    options=list(BLENDS),
                    default=BLENDS[0],
                    tooltip="Where segments overlap: 'linear' fades from one to the next, 'mean' averages. "
                    "It matters for independent segments only.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent",
                    tooltip="All frames in order, for Decode Portrait. VAE Decode does as well, but not for "
                    "models without a VAE, such as the built-in one.",
                )
            ],
        )

    @classmethod
    def execute(cls, segments: dict[str, PortraitSegments], blend: str = BLENDS[0]) -> io.NodeOutput:
        from ..magicportrait_core.diffusion.aggregation import merge_segments

        parts = [part for part in segments.values() if part is not None]
        latents = merge_segments(parts, blend)
        samples = latents.movedim(1, 0) / parts[0].latent_scale  # frames in the batch, the VAE's own scale
        return io.NodeOutput({"samples": samples.to(comfy.model_management.intermediate_device())})
