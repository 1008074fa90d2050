"""Clips with exact truth: the built-in head in random colours turns before a random picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from magicportrait_core.guidance import render_guidance
from magicportrait_core.head.assets import load_head
from magicportrait_core.head.model import HeadModel
from magicportrait_core.head_appearance import plain_appearance
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.tracking.track import FaceTrack
from magicportrait_core.warp import prepare_warp, warp_frame


def write_drawn_store(
    folder: Path, clips: int = 3, frames: int = 6, size: int = 64, shard_bytes: int = 2**28
) -> Path:
    """A folder of clips, about a second; clip c is the same in every store of its size and length."""
    from training.clip_store import ClipWriter

    head = load_head("open_head")
    with ClipWriter(folder, shard_bytes) as writer:
        for number in range(clips):
            writer.add(drawn_clip(head, number, frames, size))
    return folder


def drawn_clip(head: HeadModel, number: int, frames: int = 6, size: int = 64):
    """A head that turns and opens its mouth, and the warp of its first frame, which is the reference."""
    from training.clip_store import MIRRORED_X, Clip

    random = torch.Generator().manual_seed(number)
    track = drawn_track(head, frames + 1, size, random)
    albedo = blobs(random, (256, 256)) * 0.6 + 0.3
    maps = render_guidance(head, track, replace(plain_appearance(head), albedo=albedo))
    behind = blobs(random, (size, size))
    pictures = torch.where(maps.mask > 0, maps.render, behind) * 2 - 1
    source = prepare_warp(head, pictures[0], track[0])
    warped = [warp_frame(source, track[i]) for i in range(1, frames + 1)]
    maps = maps[1:]
    negative = (maps.flags & 2) > 0
    return Clip(
        name=f"drawn{number}",
        frames=levels(pictures[1:]),
        maps={
            "depth": maps.depth_levels,
            "normal": (maps.normal * 255).round().to(torch.uint8),
            MIRRORED_X: torch.where(negative, maps.normal_levels[:, :1], 0),
            "warp": levels(torch.stack([frame.image for frame in warped])),
            "sources": torch.stack([frame.source_map for frame in warped])[:, None].to(torch.uint8),
        },
        reference=levels(pictures[0]),
        fps=25.0,
    )


def drawn_track(head: HeadModel, frames: int, size: int, random: torch.Generator) -> FaceTrack:
    """Frame 0 looks ahead with the mouth shut."""
    centre = (head.template.amax(0) + head.template.amin(0)) / 2
    view = torch.eye(3, 4).repeat(frames, 1, 1)
    view[:, :, 3] = -centre - torch.tensor([0.0, 0.0, 0.9])
    side = 1.0 if torch.rand(1, generator=random) < 0.5 else -1.0
    pose = torch.zeros(frames, 5, 3)
    pose[:, 1, 1] = side * torch.linspace(0, 0.35, frames)
    expression = torch.zeros(frames, head.num_expression)
    expression[:, head.expression_index("jawOpen")] = torch.linspace(0, 0.7, frames)
    return FaceTrack(
        head=head.name,
        shape=0.5 * torch.randn(1, head.num_shape, generator=random),
        expression=expression,
        pose=pose,
        eyelids=torch.zeros(frames, 2),
        camera=Camera(view, torch.tensor([[2.4 * size, size / 2, size / 2]]).repeat(frames, 1), (size, size)),
        fps=25.0,
        confidence=torch.ones(frames),
        found=torch.ones(frames, dtype=torch.bool),
        error=torch.zeros(frames),
        expression_names=head.expression_names,
    )


def blobs(random: torch.Generator, size: tuple[int, int]) -> Tensor:  # (3, height, width) 0..1
    """Soft spots of random colours."""
    coarse = torch.rand(1, 3, 4, 4, generator=random)
    return functional.interpolate(coarse, size, mode="bicubic", align_corners=False)[0].clamp(0, 1)


def levels(pictures: Tensor) -> Tensor:  # uint8
    """Of values in [-1, 1]."""
    return ((pictures + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
