"""The maps of a clip, rendered in the square that tracking worked in and brought to the stored size.

Resampling is the sampler's own (magicportrait_core.resampling): a model sees in training what it will see.
"""

from __future__ import annotations

import torch
from torch import Tensor

from magicportrait_core.appearance import appearance_from_portrait
from magicportrait_core.guidance import GuidanceMaps, render_guidance
from magicportrait_core.head_appearance import HeadAppearance, released_appearance
from magicportrait_core.media.image import from_levels, to_levels
from magicportrait_core.motion_features import map_levels
from magicportrait_core.resampling import resized_levels
from magicportrait_core.tracking.track import FaceTrack
from magicportrait_core.warp.compose import warp_frame
from magicportrait_core.warp.source import prepare_warp
from magicportrait_core.warped_portrait import WarpedPortrait
from training.clip_store import CHANNELS, MIRRORED_X
from training.preparation.options import WARPED, PrepareOptions
from training.preparation.tools import Tools

NEGATIVE_X = 2  # the bit of GuidanceMaps.flags


def clip_maps(
    tools: Tools,
    track: FaceTrack,  # of the square at the working size
    still: Tensor,  # (3, S, S) uint8, the best still picture of the clip
    still_track: FaceTrack,  # 1 frame, of `still`
    options: PrepareOptions,
) -> dict[str, Tensor]:  # (F, C, size, size) uint8, C as in CHANNELS
    """Every map of the options, for every frame of the track."""
    size = (options.size, options.size)
    out = {}
    if any(name not in WARPED for name in options.maps):
        appearance = None
        if "render" in options.maps:
            appearance = own_appearance(tools, track, still, still_track)
        rendered = render_guidance(tools.head, track.to(tools.device), appearance)
        for name in options.maps:
            if name not in WARPED:
                out[name] = resized_levels(levels_of(rendered, name), size)[:, : CHANNELS[name]]
    if options.reference:
        warped = warped_clip(tools, track, still, still_track).resized(size)
        out |= {"warp": warped.warp_levels, "sources": warped.labels}
    return {name: out[name].contiguous() for name in options.maps}


def levels_of(maps: GuidanceMaps, name: str) -> Tensor:  # (F, 3, H, W) uint8
    """A map as networks read it, and what its mirror image needs of the normals."""
    if name != MIRRORED_X:
        return map_levels(maps, name)
    left = (maps.flags & NEGATIVE_X) > 0
    return (maps.normal_levels[:, :1] * left).expand(-1, 3, -1, -1).contiguous()


def own_appearance(tools: Tools, track: FaceTrack, still: Tensor, still_track: FaceTrack) -> HeadAppearance:
    """The clip's own skin and light: as DECA saw them where its texture is at hand, else from the picture."""
    if tools.released is not None and tools.released.texture is not None:
        return released_appearance(tools.released.texture, track)
    picture = from_levels(still.movedim(0, -1)).to(tools.device)
    return appearance_from_portrait(tools.head, still_track.to(tools.device), picture)


def warped_clip(tools: Tools, track: FaceTrack, still: Tensor, still_track: FaceTrack) -> WarpedPortrait:
    """The still picture, moved as the track says."""
    picture = from_levels(still.movedim(0, -1)).to(tools.device)
    source = prepare_warp(tools.head, picture, still_track)
    target = track.to(tools.device)
    frames = [warp_frame(source, target[i : i + 1]) for i in range(target.num_frames)]
    levels = torch.stack([to_levels(frame.image).movedim(-1, 0) for frame in frames])
    labels = torch.stack([frame.source_map.cpu().to(torch.uint8)[None] for frame in frames])
    return WarpedPortrait(still, levels, labels, torch.tensor([frame.turn for frame in frames]))
