"""Align Identity Shape: the portrait's head with the driver's motion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io
from torch import Tensor

from . import host
from .common_inputs import FaceRequest, face_inputs
from .sockets import FaceTrackSocket, HeadTrack, HeadTracker, HeadTrackerSocket

if TYPE_CHECKING:
    from ..magicportrait_core.alignment import Alignment, StructuredFaceAlignment
    from ..magicportrait_core.tracking.track import FaceTrack
    from ..magicportrait_core.tracking.tracker import TrackingResult

MODES = ("auto", "relative", "absolute")
CARRY = ("neck", "whole")
OVERLAY_SIDE = 1024  # pixels, longer side of the overlay at most
STRENGTHS = {
    "strength": "All motion of the driver together. 0 leaves the portrait exactly still, 1 transfers the "
    "motion as it is, above 1 exaggerates.",
    "head": "Turning and tilting of the head. 0 keeps the portrait's own pose, 1 follows the driver.",
    "jaw": "Opening of the mouth by the jaw. 0 keeps the portrait's, 1 follows the driver.",
    "mouth": "Lips and cheeks: smiles, puckers, speech. 0 keeps the portrait's, 1 follows the driver.",
    "brows": "Eyebrows and forehead. 0 keeps the portrait's, 1 follows the driver.",
    "lids": "Blinks and squints. 0 keeps the portrait's eyelids, 1 follows the driver.",
    "gaze": "Direction of the eyes. 0 keeps the portrait's gaze, 1 follows the driver.",
}


def strength_inputs() -> list[io.Input]:
    return [
        io.Float.Input(name, default=1.0, min=0.0, max=2.0, step=0.05, tooltip=text)
        for name, text in STRENGTHS.items()
    ]


class AlignIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitAlignIdentity",
            display_name="Align Identity Shape",
            category="MagicPortrait/tracking",
            description="Structured face alignment: keeps the portrait's face shape, place and camera, and "
            "takes the expression and head motion of the driving track.",
            search_aliases=[
                "liveportrait",
                "face reenactment",
                "expression transfer",
                "retarget",
                "identity",
                "talking head",
                "structured face alignment",
                "relative motion",
            ],
            inputs=[
                HeadTrackerSocket.Input("head_tracker", tooltip="The same tracker as for the driving video."),
                io.Image.Input("portrait", tooltip="One picture of the person to animate."),
                FaceTrackSocket.Input("driving", tooltip="The motion to transfer, from Track Driving Video."),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="auto",
                    tooltip="'absolute' gives the portrait the driver's own poses and expressions, as in "
                    "the paper. 'relative' adds the driver's change from a neutral frame to the portrait's "
                    "own pose and expression. 'auto' chooses and says so in the report.",
                ),
                *strength_inputs(),
                io.Int.Input(
                    "neutral_frame",
                    default=-1,
                    min=-1,
                    max=1_000_000,
                    tooltip="For 'relative': the driving frame that counts as rest. -1 finds the calmest "
                    "frontal frame.",
                ),
                io.Combo.Input(
                    "carry",
                    options=list(CARRY),
                    default="neck",
                    advanced=True,
                    tooltip="What turns with the head: 'neck' bends the neck and leaves the shoulders where "
                    "they are, 'whole' turns everything, as the paper does.",
                ),
                *face_inputs("portrait"),
            ],
            outputs=[
                FaceTrackSocket.Output("aligned", tooltip="The portrait's head, moving like the driver."),
                FaceTrackSocket.Output("portrait_track", tooltip="The portrait's own head, one frame."),
                io.Image.Output("overlay", tooltip="The head fitted to the portrait, drawn over it."),
                io.String.Output("report", tooltip="What was found, which mode was used, and warnings."),
            ],
        )

    @classmethod
    def execute(
        cls,
        head_tracker: HeadTracker,
        portrait: Tensor,
        driving: HeadTrack,
        mode: str = "auto",
        strength: float = 1.0,
        head: float = 1.0,
        jaw: float = 1.0,
        mouth: float = 1.0,
        brows: float = 1.0,
        lids: float = 1.0,
        gaze: float = 1.0,
        neutral_frame: int = -1,
        carry: str = "neck",
        **face,
    ) -> io.NodeOutput:
        from ..magicportrait_core.alignment import StructuredFaceAlignment, align

        options = StructuredFaceAlignment(
            mode=mode,
            neutral_frame=None if neutral_frame < 0 else neutral_frame,
            strength=strength,
            head=head,
            jaw=jaw,
            mouth=mouth,
            brows=brows,
            lids=lids,
            gaze=gaze,
            carry=carry,
        )
        with host.ordinary_tensors():
            picture = host.one_picture(portrait, "portrait")
            found = track_portrait(head_tracker, picture, FaceRequest(**face))
            aligned = align(found.track, driving.track, options)
            overlay = host.to_image(portrait_overlay(picture, head_tracker, found.track)[None])
        report = alignment_report(found.report, aligned, options)
        return io.NodeOutput(
            HeadTrack(head_tracker.head, aligned.track),
            HeadTrack(head_tracker.head, found.track),
            overlay,
            report,
            ui=host.show_text(report),
        )


def track_portrait(tracker: HeadTracker, picture: Tensor, face: FaceRequest) -> TrackingResult:
    """The head in the portrait; one sentence when there is none."""
    from ..magicportrait_core.tracking.tracker import TrackingOptions, track_portrait_with_report

    host.progress()(0, 1, picture)

    def run(landmarker, choice) -> TrackingResult:
        return track_portrait_with_report(picture, landmarker, tracker.head, TrackingOptions(choice=choice))

    return face.track("Portrait", tracker.landmarker, picture.shape[-2:], run)


def portrait_overlay(picture: Tensor, tracker: HeadTracker, track: FaceTrack) -> Tensor:
    """The head over the portrait, which is made smaller if it is large."""
    from ..magicportrait_core.media.image import resize
    from ..magicportrait_core.overlay import overlay_frame

    size = tuple(picture.shape[-2:])
    small = resize(picture, host.scaled(size, min(OVERLAY_SIDE, max(size))), "area")
    return overlay_frame(small, tracker.head, track)


def alignment_report(portrait: str, aligned: Alignment, options: StructuredFaceAlignment) -> str:
    """What was found in the portrait, what was done, and what may look wrong."""
    how = f"mode {options.mode}"
    if aligned.neutral_frame is not None:
        how += f", change since driving frame {aligned.neutral_frame}"
    if options.mode == "auto" and aligned.absolute_rotation:
        how += ", head rotation taken from the driver as it is"
    lines = ["Portrait: " + portrait, f"Aligned {aligned.track.num_frames} frames: {how}"]
    return "\n".join(lines + [f"! {warning}" for warning in aligned.warnings])
