"""What a landmark network saw: one face in one picture, and one person through a clip."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

NUM_LANDMARKS = 478  # MediaPipe face mesh with irises
NUM_BLENDSHAPES = 52  # MediaPipe order: "_neutral" first, no "tongueOut"


@dataclass(frozen=True)
class FaceObservation:
    """One face in one picture."""

    points: Tensor  # (478, 3) pixels (centres at +0.5); z in the same unit, smaller is nearer
    blendshapes: Tensor  # (52,) 0..1
    presence: float  # 0..1, from the landmark network
    score: float  # 0..1, from the detector (presence again when the detector did not run)
    skin: Tensor | None = None  # (N, 3) uint8, colours at the places of a SkinSampler

    @property
    def box(self) -> tuple[float, float, float, float]:
        """left, top, right, bottom of the landmarks, pixels."""
        low, high = self.points[:, :2].amin(0), self.points[:, :2].amax(0)
        return (*low.tolist(), *high.tolist())


@dataclass(frozen=True)
class FaceObservations:
    """One person through a clip. Rows of frames without the person hold NaN points and found=False."""

    points: Tensor  # (F, 478, 3) as FaceObservation.points
    blendshapes: Tensor  # (F, 52)
    presence: Tensor  # (F,)
    found: Tensor  # (F,) bool
    size: tuple[int, int]  # height, width of the frames, pixels
    fps: float  # frames per second; 0 for a single picture
    num_faces: Tensor  # (F,) int64, faces seen in the frame
    face_index: int = 0  # which face was chosen, in the order that was asked for
    notes: tuple[str, ...] = ()  # sentences for people about doubtful frames
    covered: Tensor | None = None  # (F, 3) bool, zones of covers.ZONES; None where no picture was looked at

    @property
    def num_frames(self) -> int:
        return self.points.shape[0]

    def __getitem__(self, frames: slice | Tensor) -> FaceObservations:
        names = ("points", "blendshapes", "presence", "found", "num_faces")
        covered = None if self.covered is None else self.covered[frames]
        return replace(self, covered=covered, **{name: getattr(self, name)[frames] for name in names})


def single_observation(face: FaceObservation, size: tuple[int, int]) -> FaceObservations:
    """One picture as a clip of one frame."""
    return FaceObservations(
        points=face.points[None],
        blendshapes=face.blendshapes[None],
        presence=torch.tensor([face.presence]),
        found=torch.tensor([True]),
        size=size,
        fps=0.0,
        num_faces=torch.tensor([1]),
    )
