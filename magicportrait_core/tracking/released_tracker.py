"""The released tracker: DECA and SMIRK read FLAME's coefficients from every picture, nothing is fitted.

Facts d.1: of the portrait DECA's shape, texture, light, camera and crop are used; of the driver DECA's
rotation and SMIRK's expression and jaw. Both are read here the same way, alignment in mode "absolute" then
takes of each what is its part. Faces are found and followed by the built-in landmark network (or whatever
gave the observations), each picture is read once, and frames without a face are left to a policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..head.files import HeadFileError
from ..head.model import HeadModel
from ..head.texture_space import TextureSpace
from ..rendering.camera import Camera
from .bridging import bridge_covers
from .deca import DecaEncoder
from .face_codes import FaceCodes, FaceReader
from .face_region import overlap
from .following import FaceChoice, follow_face
from .gaze import gaze_of_scores
from .landmarker import Landmarker
from .missing import MissingPolicy, fill_missing
from .observation import FaceObservation, FaceObservations
from .released_crops import Box, CropRules
from .report import track_report
from .smirk import SmirkExpressionEncoder
from .smoothing import SmoothingOptions, smooth
from .track import NUM_JOINTS, FaceTrack
from .tracker import OnFrame, TrackingResult
from .weak_perspective import weak_perspective_camera

FLAME = "generic_model.pkl"
NEEDED = f"DECA and SMIRK speak FLAME 2020's language: choose {FLAME} of FLAME 2020 (flame.is.tue.mpg.de)"
RAW = SmoothingOptions(head=0.0, expression=0.0, gaze=0.0)
SAME_FACE = 0.3  # overlap of a given box with a face from which it is the face's
JAW, LEFT_EYE = 2, 3  # rows of FaceTrack.pose


@dataclass(frozen=True)
class ReleasedTracker:
    """What the licensed files hold; `load_released_tracker` reads them."""

    head: HeadModel  # FLAME 2020
    deca: DecaEncoder
    smirk: SmirkExpressionEncoder
    landmarker: Landmarker
    texture: TextureSpace | None = None

    def __post_init__(self):
        check_flame_2020(self.head, self.head.name)


@dataclass(frozen=True)
class ReleasedOptions:
    """The defaults are the released system, except that frames without a face are filled by a policy (it
    reads the whole picture as a face there)."""

    choice: FaceChoice = FaceChoice()
    missing: MissingPolicy = "interpolate"
    smoothing: SmoothingOptions = RAW
    gaze: bool = False  # eyes follow the landmark network's scores; released: they look straight ahead
    crops: CropRules = CropRules()
    batch: int = 16  # faces encoded together

    def __post_init__(self):
        if self.batch < 1:
            raise ValueError(f"batch={self.batch}; expected 1 face or more")


def track_released(
    frames: Iterable[Tensor],  # each (3, H, W) in [-1, 1]; read once, one at a time
    tracker: ReleasedTracker,
    fps: float,
    options: ReleasedOptions | None = None,
    on_frame: OnFrame | None = None,  # frames looked at so far; may raise to cancel
    observations: FaceObservations | None = None,  # of these frames, where another tracker made them
    deca_boxes: Sequence[Box | None] | None = None,  # of 68 landmarks by another detector, for each frame
) -> TrackingResult:
    """The track of one person through a clip; every frame has usable values.

    Shape, texture and light are means over the frames. Eyelids are kept; they show on heads with eyelid
    bases. The camera keeps the head's place as the view's translation (metres) and its size as focal
    length.

    Raises ValueError with one sentence when no face is found at all, or in some frames under the policy
    "raise".
    """
    options = options or ReleasedOptions()
    observations, codes = _read(frames, tracker, fps, options, on_frame, observations, deca_boxes)
    track = _as_track(tracker.head, observations, codes, options)
    if fps > 0:
        track = replace(track, camera=track.camera.centred())
    track = smooth(fill_missing(bridge_covers(track), options.missing), options.smoothing)
    report = track_report(track, observations.num_faces, observations.notes)
    return TrackingResult(track, observations, report)


def track_portrait_released(
    image: Tensor,  # (3, H, W) in [-1, 1]
    tracker: ReleasedTracker,
    options: ReleasedOptions | None = None,
    observations: FaceObservations | None = None,
    deca_box: Box | None = None,
) -> TrackingResult:
    """The same of a single picture: one frame, fps 0; the camera is exactly the released one."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"a portrait must be one picture (3, height, width), got shape {tuple(image.shape)}")
    options = replace(options or ReleasedOptions(), missing="raise", batch=1)
    boxes = None if deca_box is None else [deca_box]
    return track_released([image], tracker, 0.0, options, None, observations, boxes)


def check_flame_2020(head: HeadModel, file: str) -> None:
    """Refuses heads whose coefficients mean something else than DECA's and SMIRK's."""
    name = head.name
    if name == "flame2020" and not head.jaw_in_expression:
        return
    if head.jaw_in_expression and name.startswith("flame"):
        raise HeadFileError(f"{file} is a FLAME without jaw; {NEEDED}")
    if name in ("flame2020_female", "flame2020_male"):
        raise HeadFileError(f"{file} is FLAME 2020 for one gender, with a shape space of its own; {NEEDED}")
    if name.startswith("flame2023"):
        raise HeadFileError(f"{file} is FLAME 2023, whose coefficients are not those of 2020; {NEEDED}")
    if name.startswith("flame_"):
        raise HeadFileError(
            f"{file} does not carry a published name, so it cannot be told which FLAME it is; name it "
            f"{FLAME} if it is the generic model of FLAME 2020"
        )
    raise HeadFileError(f"head {name!r} is not FLAME; {NEEDED}")


def _read(
    frames: Iterable[Tensor],
    tracker: ReleasedTracker,
    fps: float,
    options: ReleasedOptions,
    on_frame: OnFrame | None,
    observations: FaceObservations | None,
    deca_boxes: Sequence[Box | None] | None,
) -> tuple[FaceObservations, FaceCodes]:
    """Observations of the person, and the codes of the frames where they were found."""
    reader = FaceReader(tracker.deca, tracker.smirk, options.crops, options.batch)
    seen: list[list[tuple[Tensor, int]]] = []  # of each frame: a face's points, its number in the reader

    def read(number: int, picture: Tensor, faces: Sequence[Tensor]) -> None:
        box = deca_boxes[number] if deca_boxes is not None else None
        seen.append([(points, reader.add(picture, points, _if_same(box, points))) for points in faces])

    if observations is None:
        observations = follow_face(
            frames,
            tracker.landmarker,
            options.choice,
            fps,
            on_frame,
            lambda number, picture, faces: read(number, picture, [face.points for face in faces]),
        )
    else:
        for number, picture in enumerate(frames):
            _check_fits(observations, number, picture)
            read(number, picture, [observations.points[number]] if observations.found[number] else [])
            if on_frame is not None:
                on_frame(number + 1)
        if len(seen) != observations.num_frames:
            raise ValueError(f"there are {len(seen)} frames, but observations of {observations.num_frames}")
    chosen = [
        next(face for points, face in faces if torch.equal(points, observations.points[number]))
        for number, faces in enumerate(seen)
        if observations.found[number]
    ]
    if not chosen:
        raise ValueError(
            f"no face was found in any of the {observations.num_frames} frames; use pictures with one"
        )
    return observations, reader.codes()[torch.tensor(chosen)]


def _if_same(box: Box | None, points: Tensor) -> Box | None:
    """A given box, if it lies on this face and not on another of the picture."""
    if box is None:
        return None
    face = FaceObservation(points, points.new_zeros(0), 1.0, 1.0).box
    return box if overlap(box, face) >= SAME_FACE else None


def _check_fits(observations: FaceObservations, number: int, picture: Tensor) -> None:
    size = tuple(picture.shape[-2:])
    if number >= observations.num_frames or size != tuple(observations.size):
        height, width = observations.size
        raise ValueError(
            f"frame {number} ({size[1]}x{size[0]}) does not belong to the given observations of "
            f"{observations.num_frames} frames of {width}x{height}; connect landmarks of the same clip"
        )


def _as_track(
    head: HeadModel, observations: FaceObservations, codes: FaceCodes, options: ReleasedOptions
) -> FaceTrack:
    found = observations.found.cpu()
    frames = found.nonzero().squeeze(1)

    def rows(values: Tensor) -> Tensor:  # (F, ...), NaN where no face was found
        out = values.new_full((len(found), *values.shape[1:]), torch.nan)
        out[frames] = values
        return out

    pose = torch.zeros(len(frames), NUM_JOINTS, 3)
    pose[:, 0], pose[:, JAW] = codes.deca.rotation, codes.smirk.jaw
    if options.gaze:
        pose[:, LEFT_EYE:] = gaze_of_scores(observations.blendshapes.cpu()[frames])
    camera = weak_perspective_camera(codes.deca.scale_shift, codes.transform, codes.size)
    camera = _in_picture(camera, tuple(observations.size))
    return FaceTrack(
        head=head.name,
        shape=_padded(codes.deca.shape.mean(0, keepdim=True), head.num_shape, "shape", head),
        expression=rows(_padded(codes.smirk.expression, head.num_expression, "expression", head)),
        pose=rows(pose),
        eyelids=rows(codes.smirk.eyelids),
        camera=replace(camera, view=rows(camera.view), intrinsics=rows(camera.intrinsics)),
        fps=observations.fps,
        confidence=torch.where(found, observations.presence.cpu(), 0.0).float(),
        found=found,
        error=torch.full((len(found),), torch.nan),
        face_index=observations.face_index,
        landmarks=observations.points.cpu().float(),
        texture=codes.deca.texture.mean(0, keepdim=True),
        light=codes.deca.light.mean(0, keepdim=True),
        expression_names=head.expression_names,
        covered=observations.covered,
    )


def _in_picture(camera: Camera, size: tuple[int, int]) -> Camera:
    """The camera of the picture itself. Whole pixels leave the aspect of what DECA read off by a trifle,
    for which Camera.resized is too strict."""
    (old_height, old_width), (height, width) = camera.size, size
    scale = [max(size) / max(camera.size), width / old_width, height / old_height]
    return replace(camera, intrinsics=camera.intrinsics * camera.intrinsics.new_tensor(scale), size=size)


def _padded(values: Tensor, count: int, what: str, head: HeadModel) -> Tensor:
    if values.shape[1] > count:
        raise ValueError(
            f"head {head.name!r} has {count} {what} coefficients, the encoder gives {values.shape[1]}; load "
            "FLAME 2020 (generic_model.pkl)"
        )
    return torch.nn.functional.pad(values, (0, count - values.shape[1]))
