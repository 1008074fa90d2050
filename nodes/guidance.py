"""Render Geometric Guidance: depth, normals and shaded head of an aligned track."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from . import host
from .sockets import FaceTrackSocket, GuidanceMapsSocket, HeadTrack

STYLES = ("for people", "as the network sees them")


class RenderGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitRenderGuidance",
            display_name="Render Geometric Guidance",
            category="MagicPortrait/guidance",
            description="Renders the aligned head as depth, surface normals and a shaded picture: what "
            "guides the diffusion model, and useful as control images elsewhere.",
            search_aliases=[
                "depth map",
                "normal map",
                "face render",
                "guidance maps",
                "flame render",
                "controlnet face",
                "head mesh",
                "geometric guidance",
            ],
            inputs=[
                FaceTrackSocket.Input("aligned", tooltip="The track to render, from Align Identity Shape."),
                io.Int.Input(
                    "size",
                    default=0,
                    min=0,
                    max=4096,
                    step=8,
                    tooltip="Longer side of the maps in pixels. 0 is the size of the portrait.",
                ),
                io.Combo.Input(
                    "style",
                    options=list(STYLES),
                    default=STYLES[0],
                    tooltip="How the IMAGE outputs look. 'for people' shows normals and depth in full "
                    "colours; 'as the network sees them' shows the exact numbers, with negative values cut "
                    "off. GUIDANCE_MAPS always holds the network's numbers.",
                ),
                io.Int.Input(
                    "image_frames",
                    default=0,
                    min=0,
                    max=1_000_000,
                    advanced=True,
                    tooltip="At most this many frames go to the IMAGE and MASK outputs, evenly spread; it "
                    "saves memory with long clips. 0 is all. GUIDANCE_MAPS always holds every frame.",
                ),
                io.Image.Input(
                    "portrait",
                    optional=True,
                    tooltip="The portrait's picture: its colours and light are put onto the head. Without "
                    "it the head is rendered in plain grey. Needs portrait_track too.",
                ),
                FaceTrackSocket.Input(
                    "portrait_track",
                    optional=True,
                    tooltip="Where the head is in the portrait, from Align Identity Shape.",
                ),
            ],
            outputs=[
                GuidanceMapsSocket.Output(
                    "guidance", tooltip="All maps of all frames, for the diffusion nodes."
                ),
                io.Image.Output("depth", tooltip="Distance from the camera; near is bright."),
                io.Image.Output("normal", tooltip="Direction of the surface as colour."),
                io.Image.Output(
                    "render", tooltip="The head, shaded (with the portrait's colours if connected)."
                ),
                io.Mask.Output("silhouette", tooltip="White where the head is."),
            ],
        )

    @classmethod
    def execute(
        cls,
        aligned: HeadTrack,
        size: int = 0,
        style: str = STYLES[0],
        image_frames: int = 0,
        portrait: Tensor | None = None,
        portrait_track: HeadTrack | None = None,
    ) -> io.NodeOutput:
        raise NotImplementedError
