"""Flow Warp Preview: the portrait moved by 3D flow, without any diffusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io
from torch import Tensor

from . import host
from .loaders import with_landmarks
from .sockets import FaceTrackSocket, HeadTrack, WarpSocket, check_same_head

if TYPE_CHECKING:
    from ..magicportrait_core.face_view import FaceView, ViewedWarp
    from ..magicportrait_core.warp.compose import WarpFrame
    from ..magicportrait_core.warp.options import WarpOptions
    from ..magicportrait_core.warp.source import WarpSource

HELD_DEGREES = 0.5  # less is not worth a word


class FlowWarpPreview(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitFlowWarpPreview",
            display_name="Flow Warp Preview",
            category="MagicPortrait/guidance",
            description="Moves the portrait itself by the 3D flow of the head: a picture of what the motion "
            "will look like in seconds, without model weights.",
            search_aliases=[
                "liveportrait",
                "face reenactment",
                "animate portrait",
                "talking head",
                "warp",
                "optical flow",
                "quick preview",
                "expression transfer",
            ],
            inputs=[
                io.Image.Input(
                    "portrait", tooltip="The picture to move, the same as for Align Identity Shape."
                ),
                FaceTrackSocket.Input(
                    "portrait_track", tooltip="Where the head is in the portrait, from Align Identity Shape."
                ),
                FaceTrackSocket.Input("aligned", tooltip="The motion, from Align Identity Shape."),
                io.Float.Input(
                    "max_turn",
                    default=25.0,
                    min=1.0,
                    max=90.0,
                    step=1.0,
                    tooltip="Degrees of head turn away from the portrait that are followed; beyond, the "
                    "turn is held and the report says so. More shows more made-up skin.",
                ),
                io.Float.Input(
                    "max_yaw",
                    default=50.0,
                    min=1.0,
                    max=90.0,
                    step=1.0,
                    advanced=True,
                    tooltip="Degrees of turn away from the viewer that are followed at most.",
                ),
                io.Boolean.Input(
                    "mirror",
                    default=True,
                    tooltip="Use the other half of the face where the portrait hides one. Off: such skin is "
                    "filled smoothly.",
                ),
                io.Boolean.Input(
                    "mirrored_are_holes",
                    default=False,
                    advanced=True,
                    tooltip="Count mirrored skin as hole in the mask, so that an inpainting step redraws it.",
                ),
                io.Float.Input(
                    "hair",
                    default=0.30,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    advanced=True,
                    tooltip="How far around the head things move with it (hair, hats), in face widths.",
                ),
                io.Float.Input(
                    "falloff",
                    default=0.90,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    advanced=True,
                    tooltip="How far outside that the motion fades to a still background, in face widths.",
                ),
                io.Int.Input(
                    "map_frames",
                    default=0,
                    min=0,
                    max=1_000_000,
                    advanced=True,
                    tooltip="At most this many frames go to source_map, evenly spread; saves memory with "
                    "long clips. 0 is all.",
                ),
                io.Mask.Input(
                    "person_mask",
                    optional=True,
                    tooltip="White where the person is: what moves, before a background that stays still. "
                    "The portrait's size. Without it a built-in network finds the person.",
                ),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The moving portrait, one picture per frame."),
                io.Mask.Output("holes", tooltip="White where the picture had to be made up, for inpainting."),
                io.Image.Output(
                    "source_map",
                    tooltip="Where each pixel comes from: green photo, blue mirrored, orange stretched, "
                    "yellow filled, red mouth, grey outside.",
                ),
                io.String.Output("report", tooltip="How much was made up, and where the motion was limited."),
                WarpSocket.Output(
                    "warp",
                    tooltip="The same frames for GGE Encode and Decode Portrait, with models that start "
                    "from them, such as the built-in one.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        portrait: Tensor,
        portrait_track: HeadTrack,
        aligned: HeadTrack,
        max_turn: float = 25.0,
        max_yaw: float = 50.0,
        mirror: bool = True,
        mirrored_are_holes: bool = False,
        hair: float = 0.30,
        falloff: float = 0.90,
        map_frames: int = 0,
        person_mask: Tensor | None = None,
    ) -> io.NodeOutput:
        from ..magicportrait_core.warp.options import WarpOptions

        options = WarpOptions(max_turn, max_yaw, mirror, mirrored_are_holes, hair=hair, falloff=falloff)
        with host.ordinary_tensors():
            check_same_head(portrait_track, aligned)
            clip = warp_clip(portrait, portrait_track, aligned, options, map_frames, person_mask)
        return io.NodeOutput(
            clip.images,
            clip.holes,
            clip.source_maps,
            clip.report,
            clip.warp,
            ui=host.show_text(clip.report),
        )


@dataclass
class WarpedClip:
    """The node's outputs, filled frame by frame."""

    images: Tensor  # (F, H, W, 3)
    holes: Tensor  # (F, H, W)
    source_maps: Tensor  # (N, H, W, 3)
    warp: ViewedWarp
    report: str = ""

    @classmethod
    def empty(cls, source: WarpSource, view: FaceView, frames: int, shown: int) -> WarpedClip:
        """Room for the frames of the portrait, with source maps of `shown` of them."""
        from ..magicportrait_core.face_view import ViewedWarp
        from ..magicportrait_core.media.image import to_levels
        from ..magicportrait_core.warped_portrait import WarpedPortrait

        height, width = source.image.shape[-2:]
        warped = WarpedPortrait(
            to_levels(source.image).movedim(-1, 0).contiguous(),
            torch.empty(frames, 3, height, width, dtype=torch.uint8),
            torch.empty(frames, 1, height, width, dtype=torch.uint8),
            torch.zeros(frames),
        )
        return cls(
            torch.empty(frames, height, width, 3),
            torch.empty(frames, height, width),
            torch.empty(shown, height, width, 3),
            ViewedWarp(warped, view),
        )

    def put(self, i: int, frame: WarpFrame) -> None:
        """Frame number `i`, all but its source map."""
        from ..magicportrait_core.media.image import to_levels

        self.images[i] = host.to_image(frame.image[None])[0]
        self.holes[i] = host.to_mask(frame.hole[None])[0]
        self.warp.warped.warp_levels[i] = to_levels(frame.image).movedim(-1, 0)
        self.warp.warped.labels[i, 0] = frame.source_map.to("cpu", torch.uint8)
        self.warp.warped.turn[i] = frame.turn


def warp_clip(
    portrait: Tensor,
    portrait_track: HeadTrack,
    aligned: HeadTrack,
    options: WarpOptions,
    map_frames: int,
    person_mask: Tensor | None = None,
) -> WarpedClip:
    from ..magicportrait_core.face_view import face_view
    from ..magicportrait_core.warp.compose import warp_frame
    from ..magicportrait_core.warp.source import prepare_warp
    from ..magicportrait_core.warp.sources import source_map_picture, source_shares

    device = host.render_device()
    on_step = host.progress()
    picture = host.one_picture(portrait, "portrait").to(device)
    on_step(0, aligned.track.num_frames, picture)
    head = aligned.head
    if head.landmarks is None:  # DECA and SMIRK do without them
        head = with_landmarks(head, aligned.file)
    head, portrait = head.to(device), portrait_track.track.to(device)
    mask = None if person_mask is None else host.one_mask(person_mask, "person_mask")
    source = host.interruptible(prepare_warp, head, picture, portrait, options, mask)
    target = aligned.track.to(device)
    frames = target.num_frames
    shown = {frame: place for place, frame in enumerate(host.spread(frames, map_frames))}
    clip = WarpedClip.empty(source, face_view(head, target), frames, len(shown))
    shares, held = [], []
    for i in range(frames):
        result = host.interruptible(warp_frame, source, target[i : i + 1])  # seconds for a 4K photo
        clip.put(i, result)
        if i in shown:
            clip.source_maps[shown[i]] = host.to_image(source_map_picture(result.source_map)[None])[0]
        shares.append(source_shares(result.source_map))
        held.append(result.held)
        on_step(i + 1, frames, result.image)
    clip.report = warp_report(shares, held, options, source.notes)
    return clip


def warp_report(
    shares: list[dict[str, float]], held: list[float], options: WarpOptions, notes: tuple[str, ...] = ()
) -> str:
    """What the frames are made of, and how often the turn was held."""
    mean = {name: sum(share[name] for share in shares) / len(shares) for name in shares[0]}
    parts = ", ".join(f"{name} {100 * share:.1f} %" for name, share in mean.items() if share >= 5e-4)
    lines = [f"{len(shares)} frames; pixels come from: {parts}"]
    beyond = sum(degrees > HELD_DEGREES for degrees in held)
    if beyond:
        lines.append(
            f"! the driver turns up to {max(held):.0f} degrees further than this portrait can follow, in "
            f"{beyond} of {len(held)} frames: the turn was held there (max_turn {options.max_turn:g}, "
            f"max_yaw {options.max_yaw:g}); use a portrait that faces the way the driver does, or lower the "
            "head strength"
        )
    lines += [f"! {note}" for note in notes]
    return "\n".join(lines)
