"""From pictures and tracks to a training clip: warp, labels and guidance maps as inference makes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from magicportrait_core.guidance import render_guidance
from magicportrait_core.head.model import HeadModel
from magicportrait_core.head_appearance import HeadAppearance
from magicportrait_core.media.image import from_levels, to_levels
from magicportrait_core.motion_features import map_levels
from magicportrait_core.resampling import resized_labels, resized_levels
from magicportrait_core.tracking.track import FaceTrack
from magicportrait_core.warp import WarpOptions, prepare_warp, warp_frame
from training.clip_store import MIRRORED_X, Clip

Frame = tuple[np.ndarray, FaceTrack]  # (H, W, 3) uint8 and its track, one frame


@torch.no_grad()
def labelled_clip(
    name: str,
    head: HeadModel,
    appearance: HeadAppearance,  # of the render map, which is not kept
    portrait: Frame,
    targets: Sequence[Frame],
    size: int,
    fps: float = 0.0,
    notes: dict[str, str] | None = None,
    options: WarpOptions | None = None,
) -> Clip:
    """A clip of `size` pixels; pictures may be larger and are brought down as inference does."""
    source = prepare_warp(head, from_levels(torch.tensor(portrait[0])), portrait[1], options)
    frames = [warp_frame(source, track) for _, track in targets]
    warps = torch.stack([to_levels(frame.image).movedim(-1, 0) for frame in frames])
    labels = torch.stack([frame.source_map[None].to(torch.uint8) for frame in frames])
    whole = (size, size)
    maps = _head_maps(head, appearance, [track for _, track in targets], whole)
    maps["warp"] = resized_levels(warps, whole).contiguous()
    maps["sources"] = resized_labels(labels, whole)
    pictures = _stacked([portrait[0], *(picture for picture, _ in targets)])
    pictures = resized_levels(pictures, whole, Image.Resampling.LANCZOS).contiguous()
    return Clip(name, pictures[1:].clone(), maps, pictures[0].clone(), fps, notes or {})


def _head_maps(
    head: HeadModel, appearance: HeadAppearance, tracks: Sequence[FaceTrack], size: tuple[int, int]
) -> dict[str, Tensor]:
    """Depth and normals as networks read them, and what mirrored normals need."""
    drawn = [render_guidance(head, track, appearance, size) for track in tracks]
    left = [maps.normal_levels[:, :1] * ((maps.flags & 2) > 0) for maps in drawn]
    return {
        "depth": torch.cat([map_levels(maps, "depth")[:, :1] for maps in drawn]),
        "normal": torch.cat([map_levels(maps, "normal") for maps in drawn]),
        MIRRORED_X: torch.cat(left),
    }


def _stacked(pictures: Sequence[np.ndarray]) -> Tensor:  # (N, 3, H, W) uint8
    return torch.from_numpy(np.stack(pictures)).movedim(-1, 1)
