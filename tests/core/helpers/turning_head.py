"""A track made by hand: the head in the middle of a small picture."""

from __future__ import annotations

import torch

from magicportrait_core.head.model import HeadModel
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.tracking.track import FaceTrack


def track_of(head: HeadModel, frames: int = 3, size=(96, 80), projection="perspective") -> FaceTrack:
    """The head turns from one side to the other and opens its mouth."""
    centre = (head.template.amax(0) + head.template.amin(0)) / 2
    view = torch.eye(3, 4).repeat(frames, 1, 1)
    view[:, :, 3] = -centre - torch.tensor([0.0, 0.0, 0.9])
    focal = 2.6 * size[0] if projection == "perspective" else 2.8 * size[0]
    intrinsics = torch.tensor([[focal, size[1] / 2, size[0] / 2]]).repeat(frames, 1)
    pose = torch.zeros(frames, 5, 3)
    pose[:, 1, 1] = torch.linspace(-0.5, 0.6, frames)
    expression = torch.zeros(frames, head.num_expression)
    expression[:, head.expression_index("jawOpen")] = torch.linspace(0, 0.9, frames)
    return FaceTrack(
        head=head.name,
        shape=torch.zeros(1, head.num_shape),
        expression=expression,
        pose=pose,
        eyelids=torch.zeros(frames, 2),
        camera=Camera(view, intrinsics, size, projection),
        fps=25.0,
        confidence=torch.ones(frames),
        found=torch.ones(frames, dtype=torch.bool),
        error=torch.zeros(frames),
    )
