"""Render Geometric Guidance: depth, normals and shaded head of an aligned track."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io
from torch import Tensor

from . import host
from .sockets import FaceTrackSocket, GuidanceMapsSocket, HeadTrack, check_same_head

if TYPE_CHECKING:
    from ..magicportrait_core.appearance import HeadAppearance
    from ..magicportrait_core.guidance import GuidanceMaps
    from ..magicportrait_core.head.model import HeadModel

STYLES = ("for people", "as the network sees them")
AUTO, PORTRAIT, RELEASED, GREY = "auto", "portrait's own", "FLAME texture", "grey"
COLOURS = (AUTO, PORTRAIT, RELEASED, GREY)
FRAMES_AT_ONCE = 16  # turned into pictures together


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
                io.Combo.Input(
                    "colours",
                    options=list(COLOURS),
                    default=AUTO,
                    optional=True,
                    tooltip="Skin and light of the render map. 'FLAME texture': as DECA saw the portrait, "
                    "what the released weights were trained on; needs DECA + SMIRK and FLAME's texture "
                    "file. 'portrait's own': from the connected picture. 'auto': the FLAME texture where "
                    "there is one, else the portrait's own if connected, else grey.",
                ),
                io.Boolean.Input(
                    "jpeg",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Pass the maps through JPEG (quality 75), as the released system does when the "
                    "driving frames are .jpg files. Off keeps them exact.",
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
        colours: str = AUTO,
        jpeg: bool = False,
    ) -> io.NodeOutput:
        from ..magicportrait_core.guidance import render_guidance
        from ..magicportrait_core.guidance_jpeg import as_jpeg

        on_step = host.progress()
        with host.ordinary_tensors():
            device = host.render_device()
            head = aligned.head.to(device)
            on_step(0, aligned.track.num_frames)
            appearance = head_appearance(colours, head, portrait, portrait_track, aligned)
            maps = render_guidance(
                head, aligned.track, appearance, map_size(aligned.track.size, size), on_step
            )
            if jpeg:
                maps = host.interruptible(as_jpeg, maps)
            pictures = Pictures.of(maps, host.spread(maps.num_frames, image_frames), style)
        return io.NodeOutput(maps, pictures.depth, pictures.normal, pictures.render, pictures.silhouette)


@dataclass
class Pictures:
    """The maps as IMAGEs and a MASK, filled part by part: whole clips in floats would need several copies."""

    depth: Tensor  # (F, H, W, 3)
    normal: Tensor  # (F, H, W, 3)
    render: Tensor  # (F, H, W, 3)
    silhouette: Tensor  # (F, H, W)

    @classmethod
    def of(cls, maps: GuidanceMaps, frames: list[int], style: str) -> Pictures:
        from ..magicportrait_core.guidance_pictures import depth_picture, depth_range, normal_picture

        shape = (len(frames), *maps.size)
        pictures = cls(*(torch.empty(*shape, 3) for _ in range(3)), torch.empty(shape))
        limits = depth_range(maps)  # of the whole clip, so that brightness does not flicker
        for first in range(0, len(frames), FRAMES_AT_ONCE):
            host.check_cancelled()
            place = slice(first, first + FRAMES_AT_ONCE)
            part = maps[torch.tensor(frames[place])]
            people = style == STYLES[0]
            pictures.depth[place] = host.map_to_image(depth_picture(part, limits) if people else part.depth)
            pictures.normal[place] = host.map_to_image(normal_picture(part) if people else part.normal)
            pictures.render[place] = host.map_to_image(part.render)
            pictures.silhouette[place] = host.to_mask(part.mask)
        return pictures


def head_appearance(
    colours: str,
    head: HeadModel,
    portrait: Tensor | None,
    portrait_track: HeadTrack | None,
    aligned: HeadTrack,
) -> HeadAppearance | None:
    """Skin and light by the user's choice; None for a grey head."""
    if colours not in COLOURS:
        raise ValueError(f"colours is {colours!r}: choose one of {', '.join(COLOURS)}")
    has_texture = aligned.texture is not None and aligned.released
    if colours == RELEASED or (colours == AUTO and has_texture):
        return released_texture(aligned)
    if colours == GREY:
        return None
    if colours == PORTRAIT and portrait is None and portrait_track is None:
        raise ValueError(
            f"colours is '{PORTRAIT}', but no portrait is connected: connect portrait and portrait_track, or "
            f"choose '{AUTO}' or '{GREY}'"
        )
    return portrait_appearance(head, portrait, portrait_track, aligned)


def released_texture(aligned: HeadTrack) -> HeadAppearance:
    """FLAME's skin for the codes that DECA read from the portrait."""
    from ..magicportrait_core.head_appearance import released_appearance

    if not aligned.released:
        raise ValueError(
            f"colours is '{RELEASED}', but the aligned track was fitted to landmarks: choose DECA + SMIRK in "
            f"Load FLAME Tracker, or '{AUTO}' here"
        )
    if aligned.texture is None:
        raise ValueError(
            f"colours is '{RELEASED}', but the tracker has no texture: choose FLAME_texture.npz in Load "
            f"FLAME Tracker (and connect it to Load Track, if there is one), or '{AUTO}' here"
        )
    return released_appearance(aligned.texture, aligned.track)


def portrait_appearance(
    head: HeadModel, portrait: Tensor | None, portrait_track: HeadTrack | None, aligned: HeadTrack
) -> HeadAppearance | None:
    """Colours and light of the portrait, None for a grey head; both inputs or neither."""
    if portrait is None and portrait_track is None:
        return None
    if portrait is None or portrait_track is None:
        given, lacking = (
            ("portrait", "portrait_track") if portrait_track is None else ("portrait_track", "portrait")
        )
        raise ValueError(
            f"{given} is connected but {lacking} is not; portrait and portrait_track belong together: "
            "connect both for the portrait's colours, or neither for a grey head"
        )
    from ..magicportrait_core.appearance import appearance_from_portrait

    check_same_head(portrait_track, aligned)
    picture = host.one_picture(portrait, "portrait").to(head.device)
    track = portrait_track.track.to(head.device)
    return host.interruptible(appearance_from_portrait, head, track, picture)


def map_size(size: tuple[int, int], longest: int) -> tuple[int, int] | None:
    """Height and width of maps whose longer side is `longest`; None keeps the size."""
    return host.scaled(size, longest) if longest else None
