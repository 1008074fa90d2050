"""FaceTrack: the head-model parameters of one person through a clip; what users keep, edit and share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..rendering.camera import Camera

NUM_ZONES = 3  # mouth, right eye, left eye
NUM_JOINTS = 5  # root, neck, jaw, left eye, right eye
PER_FRAME = ("expression", "pose", "eyelids", "confidence", "found", "error", "landmarks", "covered")
PER_PERSON = ("shape", "texture", "light")


@dataclass(frozen=True)
class FaceTrack:
    """Head-model parameters of one clip. Shape belongs to the person, the rest to the frame.

    Frames that were filled by a policy have found=False and confidence 0; their other values are usable.
    Slicing (`track[10:20]`, `track[-1]`, `track[torch.tensor([3, 1])]`) keeps the frame axis.
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
    expression_names: tuple[str, ...] = ()  # of the head's expression basis; () where unknown
    covered: Tensor | None = None  # (F, 3) bool, zones under a cover (covers.ZONES); None: unknown

    def __post_init__(self):
        if self.expression.ndim != 2 or self.expression.shape[0] == 0:
            raise ValueError(
                f"a track needs expression (frames, coefficients) with at least one frame, got "
                f"{tuple(self.expression.shape)}"
            )
        if self.shape.ndim != 2 or self.shape.shape[0] != 1:
            raise ValueError(f"a track needs shape (1, coefficients), got {tuple(self.shape.shape)}")
        frames = self.num_frames
        expected = {
            "pose": (frames, NUM_JOINTS, 3),
            "eyelids": (frames, 2),
            "confidence": (frames,),
            "found": (frames,),
            "error": (frames,),
        }
        if self.landmarks is not None:
            expected["landmarks"] = (frames, self.landmarks.shape[-2], 3)
        if self.covered is not None:
            expected["covered"] = (frames, NUM_ZONES)
        for name, shape in expected.items():
            actual = tuple(getattr(self, name).shape)
            if actual != shape:
                raise ValueError(f"a track of {frames} frames needs {name} of shape {shape}, got {actual}")
        if self.camera.num_frames != frames:
            raise ValueError(
                f"a track of {frames} frames needs as many camera views, got {self.camera.num_frames}; use "
                "Camera.expand to repeat one"
            )
        if self.expression_names and len(self.expression_names) != self.expression.shape[1]:
            raise ValueError(
                f"a track of {self.expression.shape[1]} expression coefficients got "
                f"{len(self.expression_names)} names"
            )
        if self.found.dtype != torch.bool:
            raise ValueError(f"found must be boolean, got {self.found.dtype}")
        if not self.fps >= 0:
            raise ValueError(f"fps={self.fps}; expected frames per second, or 0 for a single picture")

    @property
    def num_frames(self) -> int:
        return self.expression.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """height, width of the pictures this track was made from, pixels."""
        return self.camera.size

    @property
    def complete(self) -> bool:
        """True when every frame has usable values (found, or filled by a policy)."""
        values = (self.expression, self.pose.flatten(1), self.camera.view.flatten(1))
        return all(bool(v.isfinite().all()) for v in values)

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, frames: int | slice | Tensor) -> FaceTrack:
        if isinstance(frames, int):
            if not -self.num_frames <= frames < self.num_frames:
                raise IndexError(f"frame {frames} of a track of {self.num_frames} frames")
            frames = slice(frames % self.num_frames, frames % self.num_frames + 1)
        parts = {name: getattr(self, name) for name in PER_FRAME}
        rows = {name: value[frames] for name, value in parts.items() if value is not None}
        if rows["expression"].shape[0] == 0:
            raise IndexError(f"{frames} selects no frame of a track of {self.num_frames} frames")
        return replace(self, **rows, camera=self.camera[frames])

    def to(self, device: torch.device | str) -> FaceTrack:
        """The same track with every tensor on `device`."""
        parts = {name: getattr(self, name) for name in PER_FRAME + PER_PERSON}
        moved = {name: value.to(device) for name, value in parts.items() if value is not None}
        return replace(self, **moved, camera=self.camera.to(device))
