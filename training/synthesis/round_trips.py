"""Round trips: a real photo is warped to another pose and that picture warped back; the truth is the photo.

What the first warp made up or lost is what a network has to repair in real skin, hair and cloth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageOps

from magicportrait_core.alignment import head_rotation
from magicportrait_core.head.model import HeadModel
from magicportrait_core.head.skinning import axis_angle_to_matrix, matrix_to_axis_angle
from magicportrait_core.head_appearance import HeadAppearance
from magicportrait_core.media.image import from_levels, to_levels
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.tracking.landmarker import Landmarker
from magicportrait_core.tracking.track import FaceTrack
from magicportrait_core.warp import WarpSource, prepare_warp, warp_frame
from magicportrait_core.warp.motion import target_vertices
from training.clip_store import Clip

from .labels import labelled_clip
from .motions import random_expression, turn_matrix
from .portraits import Portrait, tracked

TURN = np.array([0.20, 0.12, 0.09])  # standard deviation of yaw, pitch, roll between the two, radians
FACE_SHARE = (0.35, 0.75)  # of the crop's width
LANDMARK_NOISE = 0.004  # of the outer-eye distance


@dataclass(frozen=True)
class RoundTrips:
    """Photos with their mirror images, tracked once."""

    head: HeadModel
    appearance: HeadAppearance
    portraits: tuple[Portrait, ...]


def with_mirrored(
    portraits: Sequence[Portrait], landmarker: Landmarker, head: HeadModel
) -> tuple[Portrait, ...]:
    """Each portrait and its mirror image, which is tracked anew."""
    mirrored = []
    for portrait in portraits:
        picture = np.array(ImageOps.mirror(Image.fromarray(portrait.picture)))
        mirrored.append(tracked(f"{portrait.name}_mirrored", picture, landmarker, head))
    return (*portraits, *mirrored)


@torch.no_grad()
def round_trip(
    random: np.random.Generator, trips: RoundTrips, name: str, size: int, oversampled: int
) -> Clip:
    """One reference and one target, the photo, of `size` pixels."""
    portrait = trips.portraits[random.integers(len(trips.portraits))]
    picture, track = _cropped(random, portrait, oversampled)
    picture = _recoloured(random, picture)
    source = prepare_warp(trips.head, from_levels(torch.tensor(picture)), track)
    away = _moved(random, trips.head, track)
    away_picture = to_levels(warp_frame(source, away).image).numpy()
    away = replace(away, landmarks=_landmarks(random, source, away))
    notes = {"made by": "training.synthesize_data", "kind": "round-trip", "photo": portrait.name}
    back = (picture, replace(track, landmarks=None))
    reference = (away_picture, away)
    return labelled_clip(name, trips.head, trips.appearance, reference, [back], size, 0.0, notes)


def _cropped(random: np.random.Generator, portrait: Portrait, side: int) -> tuple[np.ndarray, FaceTrack]:
    """A random square around the face, at `side` pixels; where the photo ends it is continued by its edge."""
    marks = portrait.track.landmarks[0, :468, :2]
    low, high = marks.amin(0).numpy(), marks.amax(0).numpy()
    window = float(high[0] - low[0]) / random.uniform(*FACE_SHARE)
    window = max(window, 1.1 * float(high[1] - low[1]))
    height, width = portrait.picture.shape[:2]
    window = min(window, float(min(height, width)))
    centre = (low + high) / 2 + random.normal(0, 0.06, 2) * window + np.array([0, 0.05 * window])
    left = float(np.clip(centre[0] - window / 2, 0, width - window))
    top = float(np.clip(centre[1] - window / 2, 0, height - window))
    box = (left, top, left + window, top + window)
    picture = Image.fromarray(portrait.picture).resize((side, side), Image.Resampling.LANCZOS, box=box)
    scale = side / window
    camera = portrait.track.camera
    shift = camera.intrinsics.new_tensor([0.0, left, top])
    camera = Camera(camera.view, (camera.intrinsics - shift) * scale, (side, side), camera.projection)
    moved = portrait.track.landmarks.clone()
    moved[..., 0] = (moved[..., 0] - left) * scale
    moved[..., 1] = (moved[..., 1] - top) * scale
    return np.array(picture), replace(portrait.track, camera=camera, landmarks=moved)


def _recoloured(random: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Another exposure, white balance and contrast."""
    values = (picture.astype(np.float32) / 255) ** np.exp(random.normal(0, 0.25))
    values = 0.5 + random.uniform(0.75, 1.15) * (values - 0.5)
    grey = values.mean(-1, keepdims=True)
    values = grey + random.uniform(0.4, 1.3) * (values - grey)
    values = values * np.exp(random.normal(0, 0.08, 3))
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def _moved(random: np.random.Generator, head: HeadModel, track: FaceTrack) -> FaceTrack:
    """The same person with another expression, the head turned on its neck."""
    own = head_rotation(track)[0]
    turned = turn_matrix(random.normal(0, TURN)) @ own
    root = axis_angle_to_matrix(track.pose[:, 0])[0]
    pose = track.pose.clone()
    pose[0, 1] = matrix_to_axis_angle((root.T @ track.camera.view[0, :, :3].T @ turned)[None])[0]
    expression = track.expression
    if random.random() < 0.8:
        other = torch.from_numpy(random_expression(random, head))[None]
        expression = torch.lerp(expression, other, float(random.uniform(0.3, 1.0)))
    return replace(track, pose=pose, expression=expression, landmarks=None)


def _landmarks(random: np.random.Generator, source: WarpSource, track: FaceTrack) -> torch.Tensor:
    """Where the landmarks of the warped picture are, as a tracker would see them."""
    camera = source.camera
    screen = camera.project_camera(target_vertices(source, track)[None])
    marks = source.head.landmark_points(screen)
    marks[..., :2] *= source.scale
    unit = (marks[0, 33, :2] - marks[0, 263, :2]).norm()
    noise = random.standard_normal(marks[..., :2].shape) * LANDMARK_NOISE
    marks[..., :2] += torch.from_numpy(noise.astype(np.float32)) * unit
    return marks
