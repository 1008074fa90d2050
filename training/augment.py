"""Variations of training clips that keep what a clip says: all parts of a clip change alike.

A model that is trained on drawn heads must leave real photos alone. So pictures vary in what photos vary in,
and reference, warp and truth vary together: the network is never paid for changing colours or sharpness.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.clip_store import MIRRORED_X, Clip

LUMA = (0.299, 0.587, 0.114)  # BT.601
LARGEST_CROP = 0.5
GRAIN = 2**20  # normal random numbers of which noise takes a stretch: drawing new ones would take most time


@dataclass(frozen=True)
class AugmentOptions:
    """How often and how far clips vary; 0 switches a variation off."""

    flip: float = 0.0  # share of mirrored clips; their store must hold normal_left where normals are read
    colour: float = 1.0  # reach of gain, gamma, contrast and saturation; 1: as photos differ
    grey: float = 0.03  # share of black-and-white clips
    crop: float = 0.15  # largest part of the width and height that is cut off, then enlarged again
    blur: float = 0.2  # share of clips that are softer than they were
    noise: float = 2.0  # largest standard deviation of what reference and warp get, 8-bit levels

    def __post_init__(self):
        limits = {"colour": 2.0, "crop": LARGEST_CROP, "noise": 64.0}
        for item in fields(self):
            value, most = getattr(self, item.name), limits.get(item.name, 1.0)
            if not 0 <= value <= most:
                raise ValueError(f"augment {item.name}={value:g}; expected 0 (off) to {most:g}")


NO_AUGMENT = AugmentOptions(flip=0, colour=0, grey=0, crop=0, blur=0, noise=0)


def augment_clip(clip: Clip, options: AugmentOptions, random: np.random.Generator) -> Clip:
    """One variation of a clip, the same for the same state of `random`. Without reference it has none.

    Stored latents are of the pictures as they were: whatever may change pictures leaves them out.
    """
    if options != NO_AUGMENT:
        clip = replace(clip, latents=None, reference_latents=None)
    if random.random() < options.flip:
        clip = mirrored(clip)
    kept = 1 - random.uniform(0, options.crop)
    if options.crop:
        size = tuple(max(1, round(side * kept)) for side in clip.size)
        corner = [int(random.integers(whole - part + 1)) for whole, part in zip(clip.size, size, strict=True)]
        clip = clip if size == clip.size else cropped(clip, *corner, size)
    pictures = _pictures(clip)
    if options.colour or options.grey:
        pictures = recoloured(pictures, *_colours(options, random))
    if random.random() < options.blur:
        pictures = blurred(pictures, random.uniform(0.4, 0.9))
    given = len(pictures) - len(clip.frames)  # reference and warp
    if options.noise and given:
        # The truth keeps none: noise cannot be foreseen.
        noise = random.uniform(0, options.noise) * grain(pictures[:given].shape, random)
        pictures = torch.cat((pictures[:given] + noise, pictures[given:].float()))
    return _with_pictures(clip, _levels(pictures))


def mirrored(clip: Clip) -> Clip:
    """Left and right exchanged. KeyError unless normals come with what clipping took from their x."""
    maps = {name: value.flip(-1) for name, value in clip.maps.items()}
    if "normal" in maps:
        maps["normal"] = torch.cat((maps[MIRRORED_X], maps["normal"][:, 1:]), dim=1)
        maps[MIRRORED_X] = clip.maps["normal"][:, :1].flip(-1)
    reference = None if clip.reference is None else clip.reference.flip(-1)
    return replace(clip, frames=clip.frames.flip(-1), maps=maps, reference=reference)


def cropped(clip: Clip, top: int, left: int, size: tuple[int, int]) -> Clip:
    """A part of all pictures and maps, enlarged to the clip's size; labels keep to the nearest pixel."""
    part = (..., slice(top, top + size[0]), slice(left, left + size[1]))
    maps = {name: value for name, value in clip.maps.items() if name != "sources"}
    still = [] if clip.reference is None else [clip.reference[None]]
    enlarged = _enlarged([value[part] for value in (clip.frames, *still, *maps.values())], clip.size)
    frames, rest = enlarged[0], enlarged[1 + len(still) :]
    maps = dict(zip(maps, rest, strict=True))
    if "sources" in clip.maps:
        labels = clip.maps["sources"][part]
        maps["sources"] = functional.interpolate(labels, clip.size, mode="nearest-exact")
    maps = {name: maps[name] for name in clip.maps}
    return replace(clip, frames=frames, maps=maps, reference=enlarged[1][0] if still else None)


def recoloured(
    levels: Tensor,  # (N, 3, H, W) uint8
    curves: np.ndarray,  # (3, 256) float32, what each level of red, green, blue becomes
    saturation: float,  # 0: grey, 1: as it is
) -> Tensor:  # (N, 3, H, W) float32
    """The same curves and saturation for all pictures."""
    channels = [np.take(curve, levels[:, c].numpy()) for c, curve in enumerate(curves)]
    grey = (1 - saturation) * sum(weight * values for weight, values in zip(LUMA, channels, strict=True))
    return torch.from_numpy(np.stack([grey + saturation * values for values in channels], axis=1))


def blurred(pictures: Tensor, centre: float) -> Tensor:
    """(N, 3, H, W), each pixel mixed with its neighbours; `centre` is its own weight along an axis."""
    side = (1 - centre) / 2
    x = functional.pad(pictures.float(), (1, 1, 1, 1), mode="replicate")
    x = centre * x[..., 1:-1] + side * (x[..., 2:] + x[..., :-2])
    return centre * x[..., 1:-1, :] + side * (x[..., 2:, :] + x[..., :-2, :])


def grain(shape: torch.Size, random: np.random.Generator) -> Tensor:
    """Normal random numbers, float32."""
    count = shape.numel()
    table = _grain_table(max(GRAIN, 2 * count))
    start = int(random.integers(len(table) - count))
    return table[start : start + count].view(shape)


@functools.cache
def _grain_table(count: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(count, dtype=np.float32))


def _colours(options: AugmentOptions, random: np.random.Generator) -> tuple[np.ndarray, float]:
    """Curves (3, 256) and saturation of one variation."""
    reach = options.colour
    gain = np.exp(reach * (random.normal(0, 0.15) + random.normal(0, 0.05, (3, 1))))
    gamma, contrast = np.exp(reach * random.normal(0, 0.2)), np.exp(reach * random.normal(0, 0.25))
    curves = gain * np.linspace(0, 1, 256) ** gamma
    curves = 255 * ((curves - 0.5) * contrast + 0.5).clip(0, 1)
    saturation = max(0.0, 1 + reach * random.normal(0, 0.2))
    return curves.astype(np.float32), 0.0 if random.random() < options.grey else saturation


def _pictures(clip: Clip) -> Tensor:  # (N, 3, H, W) uint8
    """What shows the person: the reference and the warp if they are there, then the frames."""
    still = [] if clip.reference is None else [clip.reference[None]]
    warp = [clip.maps["warp"]] if "warp" in clip.maps else []
    return torch.cat([*still, *warp, clip.frames])


def _with_pictures(clip: Clip, pictures: Tensor) -> Clip:
    """The inverse of _pictures."""
    reference = None if clip.reference is None else pictures[0]
    frames = pictures[-len(clip.frames) :]
    warp = pictures[reference is not None : len(pictures) - len(frames)]
    return replace(
        clip,
        frames=frames,
        maps=clip.maps | ({"warp": warp} if "warp" in clip.maps else {}),
        reference=reference,
    )


def _enlarged(pictures: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
    """Bicubic, 8-bit levels to 8-bit levels; all channels in threes, for which torch has fast code."""
    planes = torch.cat([value.flatten(0, 1) for value in pictures])
    filled = functional.pad(planes, (0, 0, 0, 0, 0, -len(planes) % 3))
    threes = filled.unflatten(0, (-1, 3)).contiguous(memory_format=torch.channels_last)
    threes = functional.interpolate(threes, size, mode="bicubic", antialias=True)
    planes = threes.contiguous().flatten(0, 1)[: len(planes)]
    parts = planes.split([value.shape[0] * value.shape[1] for value in pictures])
    return [part.unflatten(0, value.shape[:2]) for part, value in zip(parts, pictures, strict=True)]


def _levels(values: Tensor) -> Tensor:
    return values if values.dtype == torch.uint8 else (values + 0.5).clamp_(0, 255).to(torch.uint8)
