"""A small network's picture on a large warp (facts/SMALL_MODEL.md 6).

On the head, what the network adds to the warp at the working size is enlarged and added. Beside the head only
two things can be true, the warp, which takes hair along, and the still portrait, whose background stays: the
network's picture says how much of each, and both are at hand at full size, so nothing gets hazy. Only the
warp is left where the portrait shows the head itself, which is no background, and where a head that moves
away uncovers what nobody saw.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .resampling import resized_smoothly
from .warp.sources import FILLED, MOUTH, OUTSIDE, PHOTO, STRETCHED
from .warped_portrait import WarpedPortrait

# Pixels are those of the working size; colours are in [-1, 1], so a level is 1 / 127.5.
REACH = 1  # pixels around each in which the warp shows the colours that are believed
MARGIN = (6 / 127.5, 1 / 127.5, 1 / 127.5)  # beyond them, of brightness and of both colour differences
LARGEST = 24 / 127.5  # by which all but a made-up mouth changes
STRETCHED_REACH, LARGEST_STRETCHED = 3, 48 / 127.5  # the same of skin that the warp stretches
LEAST_MASS = 1e-3  # share of a pixel that counts, below which there is nothing to divide by
TEETH_REACH = 2  # pixels beside the made-up inside of a mouth where what the photo shows may be teeth
TEETH_MARGIN = 8 / 127.5  # by which they change
ALIKE = 0.005  # squared distance of two colours that are hard to tell apart
YCOCG = ((0.25, 0.5, 0.25), (0.5, 0.0, -0.5), (-0.25, 0.5, -0.25))  # Malvar and Sullivan 2003, from RGB


def corrected(
    warped: WarpedPortrait,  # 1 frame
    picture: Tensor,  # (3, h, w) in [-1, 1], what the network makes of it at the working size
) -> Tensor:  # (3, H, W) in [-1, 1], of the warp's size
    """The warp with the network's correction; the warp itself, bit for bit, where the network agrees with it,
    and beside the head where it is the still portrait."""
    small = warped.resized(tuple(picture.shape[-2:]))
    warp, still = _levels(small.warp_levels), _levels(small.portrait[None])
    added = believed(picture[None], warp, small.labels) - warp
    share = share_of(still, picture[None], warp)
    added = enlarged_within(added, _head(small.labels), _head(warped.labels))
    share = enlarged_within(share, _beside(small.labels), _beside(warped.labels)).clamp(0, 1)
    if warped.backdrop is not None:
        share = share * (warped.backdrop[None] / 255)
    large, behind = _levels(warped.warp_levels), _levels(warped.portrait[None])
    return (large + added + share * (behind - large))[0].clamp(-1, 1)


def believed(
    picture: Tensor,  # (N, 3, h, w) in [-1, 1], of the network
    warp: Tensor,  # (N, 3, h, w) in [-1, 1]
    labels: Tensor,  # (N, 1, h, w) uint8, index into warp.sources.SOURCES
) -> Tensor:  # (N, 3, h, w), the picture itself, bit for bit, where it is within the limits
    """The picture with each colour brought near to those that the warp shows around it, as temporal
    anti-aliasing does with what it remembers (Karis 2014), and less near where the warp stretches the skin.
    Inside the mouth brightness is free where it is made up, and teeth stay as they are where the photo shows
    them: drawn mouths, from which networks learn, are darker than real ones."""
    mouth, stretched = labels == MOUTH, labels == STRETCHED
    ycocg = picture.new_tensor(YCOCG)
    values, shown = (torch.einsum("ij,njyx->niyx", ycocg, part) for part in (picture, warp))
    limited = torch.where(stretched, _near(values, shown, STRETCHED_REACH), _near(values, shown, REACH))
    limited[:, :1] = torch.where(mouth, values[:, :1], limited[:, :1])
    limited = torch.einsum("ij,njyx->niyx", torch.linalg.inv(ycocg), limited)
    teeth = (labels == PHOTO) & (_largest_around(mouth.float(), TEETH_REACH) > 0)
    most = torch.where(teeth, TEETH_MARGIN, torch.where(stretched, LARGEST_STRETCHED, LARGEST))
    limited = torch.where(mouth, limited, limited.clamp(warp - most, warp + most))
    return torch.where((limited - picture).abs() < 1e-5, picture, limited)


def enlarged_within(
    values: Tensor,  # (N, C, h, w)
    inside: Tensor,  # (N, 1, h, w) 0 or 1, where they count
    large: Tensor,  # (N, 1, H, W) 0 or 1, the same at the size that is wanted
) -> Tensor:  # (N, C, H, W), 0 outside
    """Values enlarged without those of the other side of an edge, which would draw a rim along it."""
    size = tuple(large.shape[-2:])
    mass = resized_smoothly(inside, size)
    return large * resized_smoothly(inside * values, size) / mass.clamp(min=LEAST_MASS)


def share_of(
    still: Tensor,  # (N, 3, h, w) in [-1, 1], as all three
    picture: Tensor,  # of the network
    warp: Tensor,
) -> Tensor:  # (N, 1, h, w) 0..1
    """How far the picture has gone from the warp towards the still portrait, of the pixels around each."""
    way = still - warp
    along = ((picture - warp) * way).sum(1, keepdim=True)
    length = way.square().sum(1, keepdim=True)
    along, length = (functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False) for x in (along, length))
    return (along / (length + ALIKE)).clamp(0, 1)


def _near(values: Tensor, shown: Tensor, reach: int) -> Tensor:
    """Values no further than the margin from what is shown around; (N, 3, h, w), of YCoCg."""
    margin = values.new_tensor(MARGIN)[:, None, None]
    return values.clamp(-_largest_around(-shown, reach) - margin, _largest_around(shown, reach) + margin)


def _largest_around(values: Tensor, reach: int) -> Tensor:
    return functional.max_pool2d(values, 2 * reach + 1, stride=1, padding=reach)


def _head(labels: Tensor) -> Tensor:
    return ((labels != OUTSIDE) & (labels != FILLED)).float()


def _beside(labels: Tensor) -> Tensor:
    return (labels == OUTSIDE).float()


def _levels(levels: Tensor) -> Tensor:
    return levels.float() / 127.5 - 1
