"""FaceTrack: the head-model parameters of one person through a clip; what users keep, edit and share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..rendering.camera import Camera

NUM_JOINTS = 5  # root, neck, jaw, left eye, right eye


@dataclass(frozen=True)
class FaceTrack:
    """Head-model parameters of one clip. Shape belongs to the person, the rest to the frame.

    Frames that were filled by a policy have found=False and confidence 0; their other values are usable.
    """

    head: str  # name of the head model, e.g. "open_head"; coefficients mean nothing without it
    shape: Tensor  # (1, S) identity coefficients, standard deviations
    expression: Tensor  # (F, E) expression coefficients (0..1 where the head's basis is ARKit)
    pose: Tensor  # (F, 5, 3) axis-angle, radians: root, neck, jaw, left eye, right eye
    eyelids: Tensor  # (F, 2) left, right, 0 open .. 1 closed, for heads with eyelid bases; else 0
    camera: Camera  # F views
    fps: float  # frames per second; 0 for a single picture
    confidence: Tensor  # (F,) 0..1
    found: Tensor  # (F,) bool, the face was seen in this frame
    error: Tensor  # (F,) mean landmark error, percent of the outer-eye distance; NaN where not measured
    face_index: int = 0
    landmarks: Tensor | None = None  # (F, 478, 3) pixels; NaN where not found
    texture: Tensor | None = None  # (1, N) texture code (DECA)
    light: Tensor | None = None  # (1, 9, 3) spherical-harmonics light (DECA)

    @property
    def num_frames(self) -> int:
        return self.expression.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """height, width of the pictures this track was made from, pixels."""
        return self.camera.size
