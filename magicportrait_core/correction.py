"""A small network's picture on a large warp (facts/SMALL_MODEL.md 6).

On the head, what the network adds to the warp at the working size is enlarged and added: within limits, as
far as the warp keeps its contrast, and as far as such corrections came nearer to the truth when they were
measured. Beside the head the result is the warp, which knows the background.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .contrast import contrast_share
from .resampling import resized_smoothly
from .trust import TRUST, Trust
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
CONTRAST_REACH = 4  # pixels around each that keep their contrast: 9 of a face that is some 60 wide
YCOCG = ((0.25, 0.5, 0.25), (0.5, 0.0, -0.5), (-0.25, 0.5, -0.25))  # Malvar and Sullivan 2003, from RGB


def corrected(
    warped: WarpedPortrait,  # 1 frame
    picture: Tensor,  # (3, h, w) in [-1, 1], what the network makes of it at the working size
    trust: Trust | None = TRUST,  # None: all of what limits and contrast allow, for measuring
) -> Tensor:  # (3, H, W) in [-1, 1], of the warp's size
    """The warp with the network's correction; the warp itself, bit for bit, where the network agrees with it,
    where it is not trusted, and beside the head."""
    large, inside = _levels(warped.warp_levels), _head(warped.labels)
    added = enlarged_within(*proposed(warped, picture, trust), inside)
    return (large + contrast_share(added, large, inside) * added)[0].clamp(-1, 1)


def proposed(
    warped: WarpedPortrait,  # 1 frame
    picture: Tensor,  # (3, h, w) in [-1, 1]
    trust: Trust | None = None,
) -> tuple[Tensor, Tensor]:  # (1, 3, h, w) added to the warp; (1, 1, h, w) 0 or 1, the head
    """What the network adds on the head at the working size.

    The head keeps the contrast that the warp has around each pixel. Networks that have not learned a case
    answer with something near the mean of all cases, and that is a picture of less contrast; by the mean
    squared error it even looks right where the warp is a pixel off, as any blur does. Inside the mouth, too:
    what networks put there without this rule was a grey veil as often as a tongue.
    """
    small = warped.resized(tuple(picture.shape[-2:]))
    warp, head = _levels(small.warp_levels), _head(small.labels)
    added = head * (believed(picture[None], warp, small.labels) - warp)
    added = contrast_share(added, warp, head, CONTRAST_REACH) * added
    return added if trust is None else added * trust.of(small.turn, small.labels), head


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


def _near(values: Tensor, shown: Tensor, reach: int) -> Tensor:
    """Values no further than the margin from what is shown around; (N, 3, h, w), of YCoCg."""
    margin = values.new_tensor(MARGIN)[:, None, None]
    return values.clamp(-_largest_around(-shown, reach) - margin, _largest_around(shown, reach) + margin)


def _largest_around(values: Tensor, reach: int) -> Tensor:
    return functional.max_pool2d(values, 2 * reach + 1, stride=1, padding=reach)


def _head(labels: Tensor) -> Tensor:
    return ((labels != OUTSIDE) & (labels != FILLED)).float()


def _levels(levels: Tensor) -> Tensor:
    return levels.float() / 127.5 - 1
