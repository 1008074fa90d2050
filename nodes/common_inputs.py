"""Which face is meant: the inputs that several nodes share for it, and what they ask of core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.latest import io
from torch import Tensor

if TYPE_CHECKING:
    from ..magicportrait_core.tracking.following import FaceChoice
    from ..magicportrait_core.tracking.landmarker import CanonicalFace, Landmarker
    from ..magicportrait_core.tracking.observation import FaceObservation
    from ..magicportrait_core.tracking.tracker import TrackingResult

FACE_ORDERS = ("largest first", "left to right", "nearest to point")


def face_inputs(where: str) -> list[io.Input]:
    """Widgets and sockets that say which face of `where` ("driving video", "portrait") is meant."""
    return [
        io.Combo.Input(
            "face_order",
            options=list(FACE_ORDERS),
            default=FACE_ORDERS[0],
            tooltip=f"How faces are counted when the {where} shows several: by size, from left to right, or "
            "by distance from (point_x, point_y).",
        ),
        io.Int.Input(
            "face_index",
            default=0,
            min=0,
            max=15,
            tooltip="Which face in that order; 0 is the first. The same person is then followed.",
        ),
        io.Float.Input(
            "point_x",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="For 'nearest to point': 0 is the left edge of the picture, 1 the right edge.",
        ),
        io.Float.Input(
            "point_y",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="For 'nearest to point': 0 is the top edge of the picture, 1 the bottom edge.",
        ),
        io.Mask.Input(
            "face_mask",
            optional=True,
            tooltip=f"Only faces whose centre lies in the white part count. One mask for the whole {where}, "
            "or one per frame.",
        ),
        io.BoundingBox.Input(
            "face_box",
            optional=True,
            force_input=True,
            tooltip="Only faces whose centre lies in this box (or one of these boxes) count, for example "
            "from a detector node.",
        ),
    ]


@dataclass(frozen=True)
class FaceRequest:
    """The values of `face_inputs`."""

    face_order: str = FACE_ORDERS[0]
    face_index: int = 0
    point_x: float = 0.5
    point_y: float = 0.5
    face_mask: Tensor | None = None  # (F or 1, h, w)
    face_box: object = None  # the host's BOUNDING_BOX: a box, boxes, or a list of boxes per frame

    def choice(self, size: tuple[int, int]) -> FaceChoice:
        """The choice for pictures of `size` (height, width)."""
        from ..magicportrait_core.tracking.following import FaceChoice

        order = dict(zip(FACE_ORDERS, ("size", "left_to_right", "near_point"), strict=True))[self.face_order]
        return FaceChoice(self.face_index, order, (self.point_x * size[1], self.point_y * size[0]))

    def areas(self, size: tuple[int, int]) -> list[Area]:
        """Where the face may be, in pictures of `size` (height, width); none means anywhere."""
        found = []
        if self.face_mask is not None:
            found.append(MaskArea(checked_mask(self.face_mask), size))
        if self.face_box is not None:
            found.append(BoxArea(boxes_per_frame(self.face_box)))
        return found

    def restrict(self, landmarker: Landmarker, size: tuple[int, int]) -> Landmarker | RestrictedLandmarker:
        """The landmarker, blind outside the mask and the boxes."""
        areas = self.areas(size)
        return RestrictedLandmarker(landmarker, areas) if areas else landmarker

    def restrict_landmarks(self, landmarks: dict, size: tuple[int, int]) -> dict:
        """The host's FACE_LANDMARKS without faces outside the mask and the boxes."""
        areas = self.areas(size)
        frames = landmarks.get("frames") if isinstance(landmarks, dict) else None
        if not areas or not isinstance(frames, list):
            return landmarks
        kept = []
        for number, faces in enumerate(frames):
            boxes = [face["bbox_xyxy"] for face in faces]
            centres = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in boxes]
            inside = [all(a.contains(number, float(x), float(y)) for a in areas) for x, y in centres]
            kept.append([face for face, ok in zip(faces, inside, strict=True) if ok])
        return {**landmarks, "frames": kept}

    def track(
        self, what: str, landmarker: Landmarker, size: tuple[int, int], run: Callable
    ) -> TrackingResult:
        """run(landmarker, choice), restricted to the areas; its complaints are about `what`."""
        landmarker = self.restrict(landmarker, size)
        try:
            return run(landmarker, self.choice(size))
        except ValueError as error:
            reason = landmarker.explain() if isinstance(landmarker, RestrictedLandmarker) else None
            raise ValueError(f"{what}: {reason or error}.") from error


@dataclass(frozen=True)
class MaskArea:
    mask: Tensor  # (F or 1, h, w)
    size: tuple[int, int]  # of the pictures

    def contains(self, frame: int, x: float, y: float) -> bool:
        mask = self.mask[min(frame, len(self.mask) - 1)]
        row = int(y / self.size[0] * mask.shape[0])
        column = int(x / self.size[1] * mask.shape[1])
        inside = 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]
        return inside and bool(mask[row, column] > 0.5)


@dataclass(frozen=True)
class BoxArea:
    frames: list[list[tuple[float, float, float, float]]]  # per frame: left, top, right, bottom

    def contains(self, frame: int, x: float, y: float) -> bool:
        boxes = self.frames[min(frame, len(self.frames) - 1)]
        return any(left <= x <= right and top <= y <= bottom for left, top, right, bottom in boxes)


Area = MaskArea | BoxArea


class RestrictedLandmarker:
    """Sees only faces whose centre lies in all of the areas. For follow_face: it looks once at each frame."""

    MOST = 8  # faces that are looked at when more are wanted than are known

    def __init__(self, landmarker: Landmarker, areas: Sequence[Area]):
        self._landmarker = landmarker
        self._areas = areas
        self._frame = -1
        self.outside: tuple[int, int] | None = None  # centre of a face that was left out
        self.inside = 0  # faces that were let through

    @property
    def canonical(self) -> CanonicalFace:
        return self._landmarker.canonical

    def observe(
        self,
        image: Tensor,
        previous: Sequence[FaceObservation] | None = None,
        max_faces: int = 1,
        thorough: bool = True,
        settle: bool = False,
        still: Sequence[bool] | None = None,
    ) -> list[FaceObservation]:
        self._frame += 1
        most = max_faces if max_faces <= len(previous or ()) else max(max_faces, self.MOST)
        seen = self._landmarker.observe(image, previous, most, thorough, settle, still)
        return self.let_through(self._frame, seen)[:max_faces]

    def observe_everywhere(
        self, image: Tensor, max_faces: int, settle: bool = False
    ) -> list[FaceObservation]:
        self._frame += 1
        seen = self._landmarker.observe_everywhere(image, max(max_faces, self.MOST), settle)
        return self.let_through(self._frame, seen)[:max_faces]

    def let_through(self, frame: int, faces: Sequence[FaceObservation]) -> list[FaceObservation]:
        kept = []
        for face in faces:
            left, top, right, bottom = face.box
            x, y = (left + right) / 2, (top + bottom) / 2
            if all(area.contains(frame, x, y) for area in self._areas):
                kept.append(face)
            else:
                self.outside = (round(x), round(y))
        self.inside += len(kept)
        return kept

    def explain(self) -> str | None:
        """Why no face was found, if the reason is where they were looked for."""
        if self.inside or self.outside is None:
            return None
        return (
            f"no face has its centre inside face_mask or face_box, though one was seen at {self.outside} "
            "(x, y in pixels): move the mask or box over it, or disconnect it"
        )


def checked_mask(mask: Tensor) -> Tensor:  # (F or 1, h, w)
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3 or not bool((mask > 0.5).any()):
        raise ValueError(
            f"face_mask (shape {tuple(mask.shape)}) has no white part: paint white over the face, or "
            "disconnect it"
        )
    return mask.cpu()


def boxes_per_frame(value: object) -> list[list[tuple[float, float, float, float]]]:
    """Boxes for each frame from the host's BOUNDING_BOX in any of its forms."""
    value = [value] if isinstance(value, dict) else value
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"face_box is {type(value).__name__}; connect a BOUNDING_BOX output to it")
    frames = [[frame] if isinstance(frame, dict) else frame for frame in value]
    if all(isinstance(frame, dict) for frame in value):
        frames = [list(value)]  # a flat list: all of them count in every frame
    try:
        boxes = [[corners(box) for box in frame] for frame in frames]
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            "face_box holds something other than boxes with x, y, width and height; connect a BOUNDING_BOX "
            "output to it"
        ) from None
    if not any(boxes):
        raise ValueError(
            "face_box is empty: the node before it found nothing; disconnect it or check that node"
        )
    return boxes


def corners(box: dict) -> tuple[float, float, float, float]:
    x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
    return x, y, x + width, y + height
