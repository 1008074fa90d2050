"""Crop Face: the released square around a face, of a picture, a batch or a video."""

from __future__ import annotations

import math

import torch
from comfy_api.latest import Input, io
from torch import Tensor

from . import host
from .common_inputs import FaceRequest, face_inputs
from .sockets import HeadTracker, HeadTrackerSocket

Box = tuple[float, float, float, float]  # left, top, right, bottom, pixels

BORDERS = ("black", "edge")
RELEASED_WIDTH = 1.5 * 512 / 352  # 2.18 widths of the face; see core's tracking.released_crops


class CropFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitCropFace",
            display_name="Crop Face",
            category="MagicPortrait/tracking",
            description="Cuts the square around a face that MagicPortrait was trained with: 512 pixels, 2.18 "
            "times as wide as the face. Of several frames, all are cut where the first shows the face.",
            search_aliases=[
                "face crop",
                "crop portrait",
                "face detection",
                "align face",
                "512 crop",
                "preprocess driving video",
            ],
            inputs=[
                HeadTrackerSocket.Input("head_tracker", tooltip="From Load FLAME Tracker; finds the face."),
                io.MultiType.Input(
                    "image",
                    types=[io.Image, io.Video],
                    tooltip="A picture, a batch of pictures, or a VIDEO, which is read frame by frame.",
                ),
                io.Int.Input(
                    "size",
                    default=512,
                    min=64,
                    max=4096,
                    step=8,
                    tooltip="Side of the crop in pixels; the released model works with 512.",
                ),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.5,
                    max=4.0,
                    step=0.05,
                    tooltip="1 is as released: a square 2.18 times as wide as the face. More shows more of "
                    "hair and shoulders.",
                ),
                io.Combo.Input(
                    "border",
                    options=list(BORDERS),
                    default=BORDERS[0],
                    tooltip="What lies outside the picture: 'black' as released, 'edge' repeats the "
                    "picture's edge.",
                ),
                *face_inputs("first frame"),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The crops, one per frame."),
                io.BoundingBox.Output(
                    "crop_box", tooltip="The square in pixels of the picture, as x, y, width and height."
                ),
                io.Float.Output("fps", tooltip="Frames per second of a VIDEO, for Track Driving Video."),
                io.Audio.Output("audio", tooltip="The sound of a VIDEO, for Create Video."),
            ],
        )

    @classmethod
    def execute(
        cls,
        head_tracker: HeadTracker,
        image: Tensor | Input.Video,
        size: int = 512,
        scale: float = 1.0,
        border: str = BORDERS[0],
        **face,
    ) -> io.NodeOutput:
        from .driving import open_clip
        from .sound import clip_sound

        on_step = host.progress()
        square, count = None, 0
        with host.ordinary_tensors():
            clip = open_clip(image, 0.0, 0, 0, 1)
            crops = torch.empty(max(1, clip.expected), size, size, 3)  # in place: a clip fits only once
            for frame in clip:
                if square is None:
                    square = face_square(frame, head_tracker, FaceRequest(**face), scale)
                crop = cut_square(frame, square, size, border)
                if count == len(crops):
                    crops = torch.cat((crops, torch.empty_like(crops)))
                crops[count] = host.to_image(crop[None])[0]
                count += 1
                on_step(count, max(clip.expected, count), crop)
            sound = clip_sound(image, clip.begin, count / clip.fps)
        return io.NodeOutput(crops[:count], bounding_box(square), float(clip.fps), sound)


def face_square(
    frame: Tensor,  # (3, H, W) in [-1, 1]
    tracker: HeadTracker,
    request: FaceRequest,
    scale: float,
) -> Box:
    """The square around the chosen face."""
    from ..magicportrait_core.tracking.following import follow_face
    from ..magicportrait_core.tracking.released_crops import box_of

    def run(landmarker, choice):
        return follow_face([frame], landmarker, choice)

    seen = request.track("First frame", tracker.landmarker, frame.shape[-2:], run)
    left, top, right, bottom = box_of(seen.points[0])
    x, y, half = (left + right) / 2, (top + bottom) / 2, scale * RELEASED_WIDTH * (right - left) / 2
    return x - half, y - half, x + half, y + half


def cut_square(
    frame: Tensor,  # (3, H, W) in [-1, 1]
    square: Box,
    size: int,
    border: str,
) -> Tensor:  # (3, size, size) in [-1, 1]
    from ..magicportrait_core.tracking.released_crops import portrait_crop

    left, top, right, bottom = square
    if border == "edge":
        height, width = frame.shape[-2:]
        beyond = [max(0, math.ceil(n) + 1) for n in (-left, right - width, -top, bottom - height)]
        frame = torch.nn.functional.pad(frame[None], beyond, mode="replicate")[0]
        left, right, top, bottom = left + beyond[0], right + beyond[0], top + beyond[2], bottom + beyond[2]
    inner = (right - left) / RELEASED_WIDTH / 2  # half the face that the released rule wants for this square
    middle = (left + right) / 2
    return portrait_crop(frame, (middle - inner, top, middle + inner, bottom), size)


def bounding_box(square: Box) -> dict:
    """The host's BOUNDING_BOX, in whole pixels."""
    left, top, right, _ = square
    return {"x": round(left), "y": round(top), "width": round(right - left), "height": round(right - left)}
