"""Variations of training clips that keep what a clip says: all parts of a clip change alike.

A model that is trained on drawn heads must leave real photos alone. So pictures vary in what photos vary in,
and reference, warp and truth vary together: the network is never paid for changing colours or sharpness.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.clip_store import MIRRORED_X, Clip

LUMA = (0.299, 0.587, 0.114)  # BT.601
LARGEST_CROP = 0.5


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
    """One variation of a clip, the same for the same state of `random`; parts that are None stay None."""
    if random.random() < options.flip:
        clip = mirrored(clip)
    if options.crop:
        clip = _cropped(clip, options.crop, random)
    if options.colour or options.grey:
        curves, saturation = _colours(options, random)
        clip = on_pictures(clip, lambda levels: recoloured(levels, curves, saturation))
    if random.random() < options.blur:
        centre = random.uniform(0.4, 0.9)
        clip = on_pictures(clip, lambda levels: blurred(levels, centre))
    return _noisy(clip, random.uniform(0, options.noise), random) if options.noise else clip


def on_pictures(clip: Clip, change) -> Clip:
    """`change` applied to what shows the person: reference, frames and warp, together."""
    parts = {"frames": clip.frames}
    parts |= {"warp": clip.maps["warp"]} if "warp" in clip.maps else {}
    parts |= {"reference": clip.reference[None]} if clip.reference is not None else {}
    changed = change(torch.cat(list(parts.values())))
    new = dict(zip(parts, changed.split([len(part) for part in parts.values()]), strict=True))
    reference = new["reference"][0] if "reference" in new else None
    maps = clip.maps | ({"warp": new["warp"]} if "warp" in new else {})
    return replace(clip, frames=new["frames"], maps=maps, reference=reference)


def mirrored(clip: Clip) -> Clip:
    """Left and right exchanged. KeyError unless normals come with what clipping took from their x."""
    maps = {name: value.flip(-1) for name, value in clip.maps.items()}
    if "normal" in maps:
        maps["normal"] = torch.cat((maps[MIRRORED_X], maps["normal"][:, 1:]), dim=1)
        maps[MIRRORED_X] = clip.maps["normal"][:, :1].flip(-1)
    reference = None if clip.reference is None else clip.reference.flip(-1)
    return replace(clip, frames=clip.frames.flip(-1), maps=maps, reference=reference)


def recoloured(
    levels: Tensor,  # (N, 3, H, W) uint8
    curves: Tensor,  # (3, 256) float, what each level of each channel becomes, 0..255
    saturation: float,  # 0: grey, 1: as it is
) -> Tensor:
    """The same curve and saturation for all pictures."""
    if saturation == 1:
        tables = curves.round().clamp(0, 255).to(torch.uint8)
        return torch.stack([tables[c][levels[:, c].long()] for c in range(3)], dim=1)
    values = torch.stack([curves[c][levels[:, c].long()] for c in range(3)], dim=1)
    grey = sum(weight * values[:, c : c + 1] for c, weight in enumerate(LUMA))
    return _levels(grey + saturation * (values - grey))


def blurred(levels: Tensor, centre: float) -> Tensor:
    """(N, 3, H, W) uint8, each pixel mixed with its neighbours; `centre` is its own weight along an axis."""
    side = (1 - centre) / 2
    kernel = torch.tensor([side, centre, side])
    count, channels, height, width = levels.shape
    values = functional.pad(levels.float().view(-1, 1, height, width), (1, 1, 1, 1), mode="replicate")
    values = functional.conv2d(values, (kernel[:, None] * kernel)[None, None])
    return _levels(values).view(count, channels, height, width)


def cropped(clip: Clip, top: int, left: int, size: tuple[int, int]) -> Clip:
    """A part of all pictures and maps, enlarged to the clip's size; labels keep to the nearest pixel."""
    part = (..., slice(top, top + size[0]), slice(left, left + size[1]))
    smooth = {name: value for name, value in clip.maps.items() if name != "sources"}
    planes = [clip.frames, *smooth.values()]
    planes += [] if clip.reference is None else [clip.reference[None]]
    flat = torch.cat([plane.flatten(0, 1) for plane in planes])[part]
    flat = _levels(functional.interpolate(flat[None].float(), clip.size, mode="bicubic", align_corners=False))
    new = [
        value.view(plane.shape)
        for value, plane in zip(flat[0].split([p[:, :, 0, 0].numel() for p in planes]), planes, strict=True)
    ]
    maps = dict(zip(smooth, new[1:], strict=False))
    if "sources" in clip.maps:
        labels = clip.maps["sources"][part].float()
        maps["sources"] = functional.interpolate(labels, clip.size, mode="nearest-exact").to(torch.uint8)
    reference = None if clip.reference is None else new[-1][0]
    return replace(clip, frames=new[0], maps={name: maps[name] for name in clip.maps}, reference=reference)


def _cropped(clip: Clip, largest: float, random: np.random.Generator) -> Clip:
    kept = 1 - random.uniform(0, largest)
    size = tuple(max(1, round(side * kept)) for side in clip.size)
    top, left = (int(random.integers(0, side - part + 1)) for side, part in zip(clip.size, size, strict=True))
    return clip if size == clip.size else cropped(clip, top, left, size)


def _colours(options: AugmentOptions, random: np.random.Generator) -> tuple[Tensor, float]:
    """Curves (3, 256) and saturation of one variation."""
    reach = options.colour
    gain = np.exp(reach * (random.normal(0, 0.15) + random.normal(0, 0.05, (3, 1))))
    gamma, contrast = np.exp(reach * random.normal(0, 0.2)), np.exp(reach * random.normal(0, 0.12))
    curve = gain * np.linspace(0, 1, 256) ** gamma
    curve = (curve - 0.5) * contrast + 0.5
    saturation = max(0.0, 1 + reach * random.normal(0, 0.2))
    if random.random() < options.grey:
        saturation = 0.0
    return torch.from_numpy(255 * curve.clip(0, 1)).float(), float(saturation)


def _noisy(clip: Clip, deviation: float, random: np.random.Generator) -> Clip:
    """Noise of reference and warp; the truth keeps none, because noise cannot be foreseen."""

    def noisy(levels: Tensor) -> Tensor:
        noise = random.standard_normal(levels.shape, dtype=np.float32)
        return _levels(levels.float() + deviation * torch.from_numpy(noise))

    maps = clip.maps | ({"warp": noisy(clip.maps["warp"])} if "warp" in clip.maps else {})
    return replace(clip, maps=maps, reference=None if clip.reference is None else noisy(clip.reference))


def _levels(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)
