"""Align Identity Shape: the portrait's head with the driver's motion."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from comfy_api.latest import io
from torch import Tensor

from . import host, released_tracking
from .common_inputs import FaceRequest, face_inputs
from .sockets import FaceLandmarksSocket, FaceTrackSocket, HeadTrack, HeadTracker, HeadTrackerSocket

if TYPE_CHECKING:
    from ..magicportrait_core.alignment import Alignment, StructuredFaceAlignment
    from ..magicportrait_core.tracking.track import FaceTrack
    from ..magicportrait_core.tracking.tracker import TrackingResult

MODES = ("auto", "relative", "absolute")
CARRY = ("auto", "neck", "whole")
NO_LIMIT = 180.0  # degrees
OWN_EXPRESSION = 0.5
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


def place_inputs() -> list[io.Input]:
    """What goes beyond the paper."""
    return [
        io.Float.Input(
            "follow_place",
            default=0.0,
            min=0.0,
            max=2.0,
            step=0.05,
            optional=True,
            advanced=True,
            tooltip="How much of the driver's moves across the picture and towards the camera to follow. 0 "
            "keeps the portrait's place and size, as the paper does; 1 follows.",
        ),
        io.Float.Input(
            "max_yaw",
            default=NO_LIMIT,
            min=0.0,
            max=NO_LIMIT,
            step=1.0,
            optional=True,
            advanced=True,
            tooltip="Degrees; the head is turned no further than this away from the viewer. 180 is no limit.",
        ),
        io.Float.Input(
            "max_change",
            default=NO_LIMIT,
            min=0.0,
            max=NO_LIMIT,
            step=1.0,
            optional=True,
            advanced=True,
            tooltip="Degrees; the head is turned no further than this away from the portrait's own pose. 180 "
            "is no limit.",
        ),
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
                FaceTrackSocket.Input(
                    "driving",
                    lazy=True,  # asked for once the portrait is known to show a face: tracking takes longer
                    tooltip="The motion to transfer, from Track Driving Video.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="auto",
                    tooltip="'auto' adds the driver's expression since its rest to the portrait's, opens "
                    "mouth and eyes by the same share of each person's range, and turns the head softly as "
                    "far as the photo allows; with DECA + SMIRK it is 'absolute', as released. 'relative' "
                    "adds the driver's change from a neutral frame to the portrait's pose and expression. "
                    "'absolute' gives the driver's own poses and expressions, as in the paper.",
                ),
                *strength_inputs(),
                io.Int.Input(
                    "neutral_frame",
                    default=-1,
                    min=-1,
                    max=1_000_000,
                    tooltip="The driving frame from which turns are counted, in 'relative' expressions too. "
                    "-1 finds the calmest frame that is turned most like the portrait.",
                ),
                io.Combo.Input(
                    "carry",
                    options=list(CARRY),
                    default=CARRY[0],
                    advanced=True,
                    tooltip="What turns with the head: 'neck' bends the neck and leaves the shoulders where "
                    "they are, 'whole' turns everything, as the paper does. 'auto' is whole for FLAME, neck "
                    "for the built-in head.",
                ),
                *face_inputs("portrait"),
                *place_inputs(),
                FaceLandmarksSocket.Input(
                    "face_landmarks",
                    optional=True,
                    tooltip="Landmarks of the portrait from Detect Face Landmarks (MediaPipe), used instead "
                    "of our own detector.",
                ),
                io.Float.Input(
                    "own_expression",
                    default=OWN_EXPRESSION,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="For 'auto': how much of the portrait's own look stays when the driver is at "
                    "rest: a slight smile, narrow eyes, raised brows. 0 gives a plain face, 1 keeps most.",
                ),
            ],
            outputs=[
                FaceTrackSocket.Output("aligned", tooltip="The portrait's head, moving like the driver."),
                FaceTrackSocket.Output("portrait_track", tooltip="The portrait's own head, one frame."),
                io.Image.Output("overlay", tooltip="The head fitted to the portrait, drawn over it."),
                io.String.Output("report", tooltip="What was found, which mode was used, and warnings."),
            ],
        )

    @classmethod
    def check_lazy_status(
        cls,
        head_tracker: HeadTracker,
        portrait: Tensor,
        driving: HeadTrack | None = None,
        face_landmarks: dict | None = None,
        **others,
    ) -> list[str]:
        """Refuse a portrait without a face before the driving video is tracked for it."""
        if driving is not None:
            return []
        face = {f.name: others[f.name] for f in fields(FaceRequest) if f.name in others}
        with host.ordinary_tensors():
            picture = host.one_picture(portrait, "portrait")
            track_portrait(head_tracker, picture, FaceRequest(**face), face_landmarks)
        return ["driving"]

    @classmethod
    async def execute(  # asynchronous because the host begins with such nodes: the portrait comes first
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
        carry: str = CARRY[0],
        follow_place: float = 0.0,
        max_yaw: float = NO_LIMIT,
        max_change: float = NO_LIMIT,
        face_landmarks: dict | None = None,
        own_expression: float = OWN_EXPRESSION,
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
            follow_place=follow_place,
            max_yaw=max_yaw if max_yaw < NO_LIMIT else None,
            max_change=max_change if max_change < NO_LIMIT else None,
            own_expression=own_expression,
        )
        with host.ordinary_tensors():
            picture = host.one_picture(portrait, "portrait")
            found = track_portrait(head_tracker, picture, FaceRequest(**face), face_landmarks)
            portrait_track = head_tracker.with_head(found.track)
            if mode == "auto" and portrait_track.released and driving.released:
                options = replace(options, mode="absolute")
            aligned = align(found.track, driving.track, options, head_tracker.head)
            overlay = host.to_image(portrait_overlay(picture, head_tracker, found.track)[None])
        report = alignment_report(found.report, aligned, options, mode)
        return io.NodeOutput(
            head_tracker.with_head(aligned.track),
            portrait_track,
            overlay,
            report,
            ui=host.show_text(report),
        )


def track_portrait(
    tracker: HeadTracker, picture: Tensor, face: FaceRequest, face_landmarks: dict | None
) -> TrackingResult:
    """The head in the portrait; one sentence when there is none."""
    from ..magicportrait_core.tracking.interop import from_face_landmarks
    from ..magicportrait_core.tracking.tracker import (
        TrackingOptions,
        track_observations,
        track_portrait_with_report,
    )

    size = tuple(picture.shape[-2:])
    host.progress()(0, 1, picture)

    def run(landmarker, choice) -> TrackingResult:
        seen, options = None, TrackingOptions(choice=choice, missing="raise")
        if face_landmarks is not None:
            used = face.restrict_landmarks(face_landmarks, size)
            seen = from_face_landmarks(used, landmarker.canonical, choice, 0.0, 1, size)
        if tracker.released is not None:
            return released_tracking.track_picture(picture, tracker.released, landmarker, choice, seen)
        if seen is not None:
            return track_observations(seen, tracker.head, options)
        return track_portrait_with_report(picture, landmarker, tracker.head, options)

    return face.track("Portrait", tracker.landmarker, size, run)


def portrait_overlay(picture: Tensor, tracker: HeadTracker, track: FaceTrack) -> Tensor:
    """The head over the portrait, which is made smaller if it is large."""
    from ..magicportrait_core.media.image import resize
    from ..magicportrait_core.overlay import overlay_frame

    size = tuple(picture.shape[-2:])
    small = resize(picture, host.scaled(size, min(OVERLAY_SIDE, max(size))), "area")
    return overlay_frame(small, tracker.head, track)


def alignment_report(portrait: str, aligned: Alignment, options: StructuredFaceAlignment, asked: str) -> str:
    """What was found in the portrait, what was done, and what may look wrong."""
    how = f"mode {options.mode}"
    if asked != options.mode:
        how += ", as the released system with DECA and SMIRK"
    if options.mode == "auto":
        how += f", expression since each person's rest, turn since driving frame {aligned.neutral_frame}"
    elif aligned.neutral_frame is not None:
        how += f", change since driving frame {aligned.neutral_frame}"
    lines = ["Portrait: " + portrait, f"Aligned {aligned.track.num_frames} frames: {how}"]
    return "\n".join(lines + [f"! {warning}" for warning in aligned.warnings])
