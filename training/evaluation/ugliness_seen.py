"""What the landmarker sees in a photo and in the pictures made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from magicportrait_core.expression_groups import group_of
from magicportrait_core.tracking.face_region import overlap
from magicportrait_core.tracking.observation import (
    NUM_BLENDSHAPES,
    NUM_LANDMARKS,
    FaceObservation,
    FaceObservations,
)
from magicportrait_core.tracking.smoothing import SmoothingOptions
from magicportrait_core.tracking.track import FaceTrack
from magicportrait_core.tracking.tracker import TrackingOptions, track_observations
from training.evaluation.footage import Tools, pictures

MAX_FACES = 6  # looked for in a photo
AMPLITUDES = {"mouth": ("jaw", "mouth"), "lids": ("lids",), "brows": ("brows",)}
UNSMOOTHED = SmoothingOptions(0, 0, 0)


@dataclass(frozen=True)
class Seen:
    """One person in a photo and in F pictures made of it, tracked together, unsmoothed."""

    track: FaceTrack  # 1 + F frames, the photo first
    points: Tensor  # (1 + F, 478, 3) pixels; NaN: not seen
    faces: Tensor  # (1 + F,) int64, faces seen, other people's included

    @property
    def wrong_faces(self) -> float:
        """Return the share of the pictures with other numbers of faces than the photo."""
        return float((self.faces[1:] != self.faces[0]).float().mean())


def look_at(
    photo: Tensor,  # (3, H, W) uint8
    box: tuple[float, float, float, float],  # of the person's face in it: left, top, right, bottom
    frames: Tensor,  # (F, 3, H, W) uint8
    fps: float,  # of the frames
    tools: Tools,
) -> Seen:
    """Detect all faces anew in every picture, beginning where the photo's are, and track the person's.

    Raises ValueError where the person is seen in none.
    """
    shown = torch.cat((photo[None], frames))
    around = None
    rows: list[FaceObservation | None] = []
    counts: list[int] = []
    for picture in pictures(shown):
        if around is None:
            around = tools.landmarker.observe_everywhere(picture, MAX_FACES)
        faces = tools.landmarker.observe(picture, around, len(around) + 1, thorough=False)
        mine = max(faces, key=lambda face: overlap(face.box, box), default=None)
        rows.append(mine if mine is not None and overlap(mine.box, box) > 0 else None)
        counts.append(len(faces))
    seen = _observations(rows, counts, tuple(photo.shape[-2:]), fps)
    track = track_observations(seen, tools.head, TrackingOptions(smoothing=UNSMOOTHED)).track
    return Seen(track, seen.points, seen.num_faces)


def amplitudes(
    shown: Tensor,  # (F, E) expression coefficients of the result
    driver: Tensor,  # (F, E)
    names: tuple[str, ...],  # of the coefficients
    least: float = 0.05,  # a driver's part of the face that moves less is not judged
) -> dict[str, float]:
    """Return how much the face moves: standard deviations over the frames, result over driver, summed in
    squares over the coefficients of mouth, lids and brows, and of all three together."""
    groups = [group_of(name) for name in names]
    power = [values.var(0, unbiased=False) for values in (shown, driver)]
    result = {}
    for name, parts in {**AMPLITUDES, "": sum(AMPLITUDES.values(), ())}.items():
        chosen = torch.tensor([group in parts for group in groups])
        own, other = (float(p[chosen].sum().sqrt()) for p in power)
        result["amplitude" + f"_{name}" * bool(name)] = own / other if other >= least else math.nan
    return result


def box_of(
    points: Tensor,  # (K, >= 2) pixels
) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of landmarks."""
    return (*points[:, :2].amin(0).tolist(), *points[:, :2].amax(0).tolist())


def _observations(
    rows: list[FaceObservation | None], counts: list[int], size: tuple[int, int], fps: float
) -> FaceObservations:
    found = torch.tensor([row is not None for row in rows])
    points = torch.full((len(rows), NUM_LANDMARKS, 3), math.nan)
    blendshapes, presence = torch.zeros(len(rows), NUM_BLENDSHAPES), torch.zeros(len(rows))
    for i, row in enumerate(rows):
        if row is not None:
            points[i], blendshapes[i], presence[i] = row.points, row.blendshapes, row.presence
    return FaceObservations(points, blendshapes, presence, found, size, fps, torch.tensor(counts))
