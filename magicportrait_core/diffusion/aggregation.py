"""Temporal aggregation: segments of one or many samplers become one timeline of latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from .segments import PortraitSegments

Blend = Literal["linear", "mean"]


def merge_segments(
    parts: Sequence[PortraitSegments],  # of one render; in any order
    blend: Blend = "linear",
) -> Tensor:  # (C, F, h, w) float32, in the network's scale
    """Every frame of the clip; frames of several segments are blended.

    linear: a segment counts for more the farther a frame lies from its ends, which is a linear cross-fade
    where two segments overlap. mean: all count alike. Equal values stay as they are, bit for bit, and neither
    the order of the parts nor how the segments were shared among them changes the result.
    Raises ValueError for parts that do not belong together and for frames that no segment holds.
    """
    if blend not in get_args(Blend):
        raise ValueError(f"blend={blend!r}; expected one of {', '.join(get_args(Blend))}")
    if not parts:
        raise ValueError("there are no segments to merge; connect the segments of at least one sampler")
    for number, part in enumerate(parts[1:], start=2):
        _check_same_render(parts[0], part, number)
    segments = sorted(
        (
            (frames, latent)
            for part in parts
            for frames, latent in zip(part.frames, part.latents, strict=True)
        ),
        key=lambda segment: segment[0],
    )
    num_frames = parts[0].num_frames
    missing = sorted(set(range(num_frames)) - {frame for frames, _ in segments for frame in frames})
    if missing:
        raise ValueError(
            f"no segment holds {_ranges(missing)} of the clip's {num_frames} frames (the first is 0); "
            "connect the segments of all workers"
        )
    channels, _, height, width = segments[0][1].shape
    merged = torch.zeros(channels, num_frames, height, width)
    weights = torch.zeros(num_frames, 1, 1)
    for frames, latent in segments:
        where = list(frames)
        weight = _weights(len(frames), blend)
        weights[where] += weight
        # A running average: a + w (b - a) leaves equal values alone.
        merged[:, where] += weight / weights[where] * (latent.float().cpu() - merged[:, where])
    return merged


def _weights(length: int, blend: Blend) -> Tensor:  # (W, 1, 1)
    if blend == "mean":
        return torch.ones(length, 1, 1)
    position = torch.arange(length)
    return torch.minimum(position + 1, length - position).float()[:, None, None]


def _check_same_render(first: PortraitSegments, part: PortraitSegments, number: int) -> None:
    facts = {
        "clip length": (first.num_frames, part.num_frames),
        "size in latent cells": (tuple(first.latents[0].shape[-2:]), tuple(part.latents[0].shape[-2:])),
        "number of channels": (first.latents[0].shape[0], part.latents[0].shape[0]),
        "latent scale": (first.latent_scale, part.latent_scale),
        "render": (first.render, part.render),
    }
    for name, (expected, actual) in facts.items():
        if expected != actual:
            raise ValueError(
                f"segments {number} differ from segments 1 in their {name}: {actual} instead of {expected}; "
                "merge segments that were rendered with the same portrait, driving video, model, seed and "
                "settings"
            )


def _ranges(frames: list[int]) -> str:
    """'frames 3-7, 12' of rising frame numbers."""
    known = set(frames)
    starts = [frame for frame in frames if frame - 1 not in known]
    ends = [frame for frame in frames if frame + 1 not in known]
    ranges = [str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True)]
    shown = ranges[:6] + (["..."] if len(ranges) > 6 else [])
    return f"frames {', '.join(shown)}" if len(frames) > 1 else f"frame {frames[0]}"
