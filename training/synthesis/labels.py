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
from magicportrait_core.tracking.track import FaceTrack
from magicportrait_core.warp import WarpOptions, prepare_warp, warp_frame
from training.clip_store import Clip


def labelled_clip(
    name: str,
    head: HeadModel,
    appearance: HeadAppearance,  # of the render map, which is not kept
    portrait: tuple[np.ndarray, FaceTrack],  # (H, W, 3) uint8 and its track
    targets: Sequence[tuple[np.ndarray, FaceTrack]],
    size: int,
    fps: float = 0.0,
    notes: dict[str, str] | None = None,
    options: WarpOptions | None = None,
) -> Clip:
    """A clip of `size` pixels; pictures may be larger and are brought down as inference does."""
    picture, track = portrait
    source = prepare_warp(head, from_levels(torch.tensor(picture)), track, options)
    maps: dict[str, list[Tensor]] = {"depth": [], "normal": [], "warp": [], "sources": []}
    for _, target in targets:
        frame = warp_frame(source, target)
        guidance = render_guidance(head, target, appearance, (size, size))
        maps["depth"].append(map_levels(guidance, "depth")[0, :1])
        maps["normal"].append(map_levels(guidance, "normal")[0])
        warped = to_levels(frame.image).numpy()
        maps["warp"].append(_channels_first(_shrunk(warped, size, Image.Resampling.BICUBIC)))
        labels = frame.source_map.to(torch.uint8).numpy()
        maps["sources"].append(torch.from_numpy(_shrunk(labels, size, Image.Resampling.NEAREST))[None])
    pictures = [_shrunk(truth, size, Image.Resampling.LANCZOS) for truth, _ in targets]
    return Clip(
        name=name,
        frames=torch.stack([_channels_first(p) for p in pictures]),
        maps={kind: torch.stack(values) for kind, values in maps.items()},
        reference=_channels_first(_shrunk(picture, size, Image.Resampling.LANCZOS)),
        fps=fps,
        notes=notes or {},
    )


def _shrunk(picture: np.ndarray, size: int, method: Image.Resampling) -> np.ndarray:
    if picture.shape[:2] == (size, size):
        return picture.copy()
    return np.array(Image.fromarray(picture).resize((size, size), method))


def _channels_first(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
