"""ComfyUI's own FACE_LANDMARKS, in and out.

The type is {"frames": [[face, ...], ...], "image_size": (H, W), "connection_sets": {name: {(a, b), ...}}}
with one list of faces per frame; a face holds numpy arrays bbox_xyxy (4,), landmarks_xy (478, 2) in pixels,
landmarks_3d (478, 3) in a 192-pixel crop and transformation_matrix (4, 4), a dictionary of 52 blendshapes,
`presence` (logit) and `score`. The host's mesh and mask nodes read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from .face_region import region_of_points
from .face_signature import within
from .following import FaceChoice, follow_observed
from .landmarker import BLENDSHAPE_NAMES, CanonicalFace
from .observation import NUM_LANDMARKS, FaceObservation, FaceObservations
from .rigid_face import facial_transformation
from .topology import connection_sets

HOST_CROP = 192  # pixels, side of the crop the host counts landmarks_3d in
MAX_LOGIT = 20.0  # of presence; sigmoid(20) is 1 in float32
SOURCE = "connect Detect Face Landmarks (MediaPipe), or nothing to use the built-in detector"
FACE_ARRAYS = {"landmarks_xy": (NUM_LANDMARKS, 2), "landmarks_3d": (NUM_LANDMARKS, 3)}


def to_face_landmarks(observations: FaceObservations, canonical: CanonicalFace) -> dict:
    """One face, or none where it was not found, per frame."""
    frames = []
    for index in range(observations.num_frames):
        found = bool(observations.found[index])
        frames.append([_host_face(observations, index, canonical)] if found else [])
    return {
        "frames": frames,
        "image_size": tuple(observations.size),
        "connection_sets": connection_sets(canonical.triangles),
    }


def to_bounding_boxes(observations: FaceObservations) -> list[list[dict]]:
    """ComfyUI's BOUNDING_BOX of the same faces."""
    boxes = []
    for points, presence, found in zip(
        observations.points, observations.presence.tolist(), observations.found.tolist(), strict=True
    ):
        if not found:
            boxes.append([])
            continue
        left, top, right, bottom = _box(points).tolist()
        place = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        boxes.append([{**place, "label": "face", "score": presence}])
    return boxes


def _host_face(observations: FaceObservations, index: int, canonical: CanonicalFace) -> dict:
    points = observations.points[index].float().cpu()
    region = region_of_points(points)
    crop = torch.cat((within(region, points[:, :2]) + 0.5, points[:, 2:] / region.width), 1) * HOST_CROP
    presence = float(observations.presence[index])
    logit = MAX_LOGIT if presence >= 1 else math.log(max(presence, 1e-9) / (1 - presence))
    return {
        "bbox_xyxy": _box(points).numpy(),
        "blendshapes": dict(zip(BLENDSHAPE_NAMES, observations.blendshapes[index].tolist(), strict=True)),
        "landmarks_xy": points[:, :2].numpy().copy(),
        "landmarks_3d": crop.numpy(),
        "presence": min(logit, MAX_LOGIT),
        "score": presence,
        "transformation_matrix": facial_transformation(points, observations.size, canonical).numpy(),
    }


def _box(points: Tensor) -> Tensor:  # (4,) left, top, right, bottom
    return torch.cat((points[:, :2].amin(0), points[:, :2].amax(0)))


def from_face_landmarks(
    value: object,
    canonical: CanonicalFace,
    choice: FaceChoice | None = None,
    fps: float = 0.0,
    num_frames: int | None = None,  # of the pictures they belong to
    size: tuple[int, int] | None = None,  # height, width of the same
) -> FaceObservations:
    """The chosen person of the host's landmarks. Raises ValueError with one sentence when `value` is not
    what the host makes, or was made from other pictures."""
    frames, found_size = _checked(value)
    if num_frames is not None and len(frames) != num_frames:
        raise ValueError(
            f"face_landmarks covers {len(frames)} frames, the pictures are {num_frames}; detect them in the "
            "same frames"
        )
    if size is not None and found_size != tuple(size):
        raise ValueError(
            f"face_landmarks was made from {found_size[1]}x{found_size[0]} pixels, the pictures have "
            f"{size[1]}x{size[0]}; detect after resizing"
        )
    faces = [
        [_face(face, f"face {j} of frame {i}") for j, face in enumerate(seen)]
        for i, seen in enumerate(frames)
    ]
    return follow_observed(faces, canonical, found_size, choice, fps)


def _checked(value: object) -> tuple[Sequence, tuple[int, int]]:
    if not isinstance(value, Mapping) or not {"frames", "image_size"} <= value.keys():
        raise ValueError(
            f"face_landmarks is {type(value).__name__} without 'frames' and 'image_size'; {SOURCE}"
        )
    frames, size = value["frames"], value["image_size"]
    if not isinstance(frames, Sequence) or not all(isinstance(seen, Sequence) for seen in frames):
        raise ValueError(f"face_landmarks['frames'] is not a list of faces per frame; {SOURCE}")
    if not frames:
        raise ValueError(f"face_landmarks has no frames; {SOURCE}")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"face_landmarks['image_size'] is {size}; expected height and width in pixels")
    return frames, (int(size[0]), int(size[1]))


def _face(face: object, where: str) -> FaceObservation:
    if not isinstance(face, Mapping):
        raise ValueError(f"{where} in face_landmarks is {type(face).__name__}, not a dictionary; {SOURCE}")
    flat, crop = (_array(face, name, shape, where) for name, shape in FACE_ARRAYS.items())
    depth = crop[:, 2:] * _crop_scale(crop[:, :2], flat)
    presence = float(torch.tensor(float(face.get("presence", MAX_LOGIT))).sigmoid())
    return FaceObservation(
        points=torch.cat((flat, depth), 1),
        blendshapes=_blendshapes(face.get("blendshapes"), where),
        presence=presence,
        score=float(face.get("score", presence)),
    )


def _array(face: Mapping, name: str, shape: tuple[int, int], where: str) -> Tensor:
    try:
        array = torch.from_numpy(np.asarray(face[name], np.float32).copy())
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{where} in face_landmarks has no usable '{name}'; {SOURCE}") from None
    if tuple(array.shape) != shape:
        raise ValueError(f"'{name}' of {where} is {tuple(array.shape)}, expected {shape}; {SOURCE}")
    if not array.isfinite().all():
        raise ValueError(f"'{name}' of {where} holds values that are not numbers; {SOURCE}")
    return array


def _blendshapes(scores: object, where: str) -> Tensor:  # (52,)
    if not isinstance(scores, Mapping) or (missing := set(BLENDSHAPE_NAMES) - scores.keys()):
        lacking = f" (no {sorted(missing)[0]!r})" if isinstance(scores, Mapping) else ""
        raise ValueError(f"{where} in face_landmarks lacks its 52 blendshapes{lacking}; {SOURCE}")
    return torch.tensor([float(scores[name]) for name in BLENDSHAPE_NAMES]).clamp(0, 1)


def _crop_scale(crop: Tensor, flat: Tensor) -> float:
    """Pixels of the picture along the crop's x axis, which its z counts in too, per pixel of the crop; from
    (N, 2) points in both."""
    affine = torch.linalg.lstsq(torch.cat((crop, torch.ones_like(crop[:, :1])), 1), flat).solution
    return float(affine[0].norm())
