"""A small head with exact landmarks: 478 points scattered over a bowl, each a vertex of its own triangle."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from magicportrait_core.head.model import HeadModel, LandmarkMap
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.tracking.landmark_model import BROW_LIFT, BROWS
from magicportrait_core.tracking.landmarker_networks import BLENDSHAPE_NAMES
from magicportrait_core.tracking.observation import FaceObservations
from magicportrait_core.tracking.track import FaceTrack

ARKIT = tuple(name for name in BLENDSHAPE_NAMES if name != "_neutral")
FACES = 478
EYE_DISTANCE = 0.09  # metres
FOCAL = 250 / math.tan(math.radians(15))  # 30 degrees over 500 pixels


def synthetic_head(arkit: bool = True, shapes: int = 6) -> HeadModel:
    """Smooth random shapes and expressions; without ARKit: unnamed ones and a jaw joint, as FLAME has."""
    generator = torch.Generator().manual_seed(0)
    expressions = len(ARKIT) if arkit else 8
    spread = torch.rand(FACES, 2, generator=generator) * 2 - 1
    centre = torch.stack((spread[:, 0] * 0.07, spread[:, 1] * 0.09, 0.1 - 0.05 * spread.square().sum(1)), 1)
    centre[33], centre[263] = torch.tensor([-0.045, 0.03, 0.08]), torch.tensor([0.045, 0.03, 0.08])
    corners = centre[:, None] + 0.001 * torch.tensor([[0.0, 1, 0], [-1.0, -1, 0], [1.0, -1, 0]])
    template = corners.flatten(0, 1)
    vertices = template.shape[0]

    def waves(count: int, size: float) -> Tensor:
        """Smooth fields over the bowl, so that neighbours move alike."""
        frequency = torch.randn(count, 2, 3, generator=generator) * 25
        phase = torch.rand(count, 1, 3, generator=generator) * 6.28
        return size * torch.sin(template[None, :, :2] @ frequency + phase)

    jaw = (-template[:, 1] * 15).clamp(0, 1) if not arkit else torch.zeros(vertices)
    weights = torch.zeros(vertices, 5)
    weights[:, 2], weights[:, 1] = jaw, 1 - jaw
    joints = torch.tensor(
        [[0.0, -0.15, -0.02], [0, -0.1, -0.02], [0, 0, 0.02], [0.03, 0.03, 0.06], [-0.03, 0.03, 0.06]]
    )
    return HeadModel(
        name="synthetic" if arkit else "synthetic_flame",
        licence="none",
        template=template,
        shape_basis=waves(shapes, 0.003),
        expression_basis=waves(expressions, 0.006),
        pose_correctives=None if arkit else 0.01 * torch.randn(36, vertices, 3, generator=generator),
        skin_weights=weights,
        joints_template=joints,
        joints_shape=0.001 * torch.randn(shapes, 5, 3, generator=generator),
        joints_expression=torch.zeros(expressions, 5, 3),
        parents=(-1, 0, 1, 1, 1),
        faces=torch.arange(vertices).reshape(-1, 3),
        uvs=torch.zeros(1, 2),
        faces_uv=torch.zeros(FACES, 3, dtype=torch.int64),
        regions=torch.zeros(FACES, dtype=torch.int64),
        expression_names=ARKIT if arkit else tuple(f"expression_{i}" for i in range(expressions)),
        landmarks=LandmarkMap(torch.arange(FACES), torch.full((FACES, 3), 1 / 3), torch.full((FACES,), 1e-4)),
        expression_limits=(0.0, 1.0) if arkit else (-math.inf, math.inf),
        jaw_in_expression=arkit,
        mirror=torch.arange(vertices),
        cavity=torch.zeros(FACES, dtype=torch.bool),
        iris=torch.zeros(FACES, dtype=torch.int64),
    )


def synthetic_track(head: HeadModel, frames: int = 5, seed: int = 1, fps: float = 25.0) -> FaceTrack:
    """A person who turns and grimaces, at about a metre from a 500x500 camera."""
    generator = torch.Generator().manual_seed(seed)
    expression = torch.rand(frames, head.num_expression, generator=generator) * 0.6 + 0.1
    pose = torch.zeros(frames, 5, 3)
    pose[:, 0] = 0.3 * torch.randn(frames, 3, generator=generator)
    if not head.jaw_in_expression:
        pose[:, 2, 0] = 0.2 * torch.rand(frames, generator=generator)
    place = torch.tensor([0.02, 0.05, -1.0]) + 0.03 * torch.randn(frames, 3, generator=generator)
    view = torch.cat((torch.eye(3).expand(frames, 3, 3), place[..., None]), -1)
    return FaceTrack(
        head=head.name,
        shape=torch.randn(1, head.num_shape, generator=generator),
        expression=expression,
        pose=pose,
        eyelids=torch.zeros(frames, 2),
        camera=Camera(view, torch.tensor([[FOCAL, 250.0, 250.0]]).expand(frames, 3), (500, 500)),
        fps=fps,
        confidence=torch.ones(frames),
        found=torch.ones(frames, dtype=torch.bool),
        error=torch.zeros(frames),
        landmarks=torch.rand(frames, FACES, 3, generator=generator) * 500,
        expression_names=head.expression_names,
    )


def facing_camera(head: HeadModel, track: FaceTrack) -> FaceTrack:
    """The same person where the tracker's cameras would see them: the middle of the face on the axis, the
    principal point at the same place of the picture as the face was."""
    points = head.landmark_points(head.vertices(track.shape, track.expression, track.pose))
    middle = track.camera.to_camera(points.mean(1, keepdim=True))
    pixels = track.camera.project_camera(middle)[:, 0, :2]
    view = track.camera.view.clone()
    view[:, :2, 3] -= middle[:, 0, :2]
    intrinsics = torch.cat((track.camera.intrinsics[:, :1], pixels), 1)
    return replace(track, camera=replace(track.camera, view=view, intrinsics=intrinsics))


def landmarks_of(head: HeadModel, track: FaceTrack) -> Tensor:  # (F, 478, 3) pixels, z smaller is nearer
    """Where a perfect landmark network sees them: brow points above their places on the head."""
    hairs = torch.zeros_like(head.template)
    if head.jaw_in_expression:
        brows = 3 * torch.tensor(BROWS)[:, None] + torch.arange(3)
        hairs[brows.flatten()] = EYE_DISTANCE * torch.tensor(BROW_LIFT)
    points = head.landmark_points(head.vertices(track.shape, track.expression, track.pose, hairs))
    seen = track.camera.project(points)
    depth = seen[..., 2:] - seen[..., 2:].mean(1, keepdim=True)
    return torch.cat((seen[..., :2], depth * FOCAL / 1.0), -1)


def observe(head: HeadModel, track: FaceTrack, found: Tensor | None = None) -> FaceObservations:
    """What a perfect landmark network would see of a track."""
    frames = track.num_frames
    found = torch.ones(frames, dtype=torch.bool) if found is None else found
    scores = torch.zeros(frames, 52)
    if head.jaw_in_expression:
        scores[:, 1:] = track.expression
    return FaceObservations(
        points=landmarks_of(head, track).masked_fill(~found[:, None, None], torch.nan),
        blendshapes=scores,
        presence=found.float() * 0.99,
        found=found,
        size=track.size,
        fps=track.fps,
        num_faces=found.long(),
    )
