"""How much of a change a picture can take without losing or gaining contrast."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
LARGEST_CHANGE = 0.045  # of the standard deviation of luma; 0.05 with what rounding to 8 bits adds
LEAST_DEVIATION = 0.5 / 127.5  # half a level of pictures in [-1, 1]: nobody sees less


def contrast_share(
    added: Tensor,  # (N, 3, H, W)
    picture: Tensor,  # (N, 3, H, W) in [-1, 1]
    inside: Tensor,  # (N, 1, H, W) 0 or 1, pixels that count
    reach: int | None = None,  # pixels around each that make its neighbourhood; None: all of the picture
) -> Tensor:  # (N, 1, H, W) 0..1; (N, 1, 1, 1) without a reach
    """The largest share of the change with which the standard deviation of luma stays within LARGEST_CHANGE
    of the picture's own in the neighbourhood of every pixel.

    With the variance v of the picture, u of the change and their covariance c, a share k gives
    v + 2 k c + k^2 u. The bound used is |2 k c| + k^2 u <= (1 - (1 - LARGEST_CHANGE)^2) v: it is sufficient
    in both directions, and continuous in its inputs, so that the share does not jump from frame to frame.
    A change that is the same for all pixels keeps contrast and is taken whole.
    """
    before, change = (_luma(values).double() for values in (picture, added))
    mean = _mean(inside.double(), reach)
    first, second = mean(before), mean(change)
    variance = (mean(before.square()) - first.square()).clamp(min=0) + LEAST_DEVIATION**2
    spread = (mean(change.square()) - second.square()).clamp(min=0)
    together = (mean(before * change) - first * second).abs()
    room = (1 - (1 - LARGEST_CHANGE) ** 2) * variance
    needed = together + (together.square() + spread * room).sqrt()  # of the positive root
    share = (room / needed.clamp(min=1e-30)).clamp(max=1)
    if reach is not None:
        share = _smallest_around(share, 2 * reach)
        share = functional.avg_pool2d(share, 2 * reach + 1, 1, reach, count_include_pad=False)
    return share.to(added)


def _mean(inside: Tensor, reach: int | None):
    """A function: the mean of values over the pixels that count, of all or around each pixel."""
    if reach is None:
        count = inside.sum((2, 3), keepdim=True).clamp(min=1)
        return lambda values: (inside * values).sum((2, 3), keepdim=True) / count
    width = 2 * reach + 1
    share = functional.avg_pool2d(inside, width, 1, reach).clamp(min=1 / width**2)
    return lambda values: functional.avg_pool2d(inside * values, width, 1, reach) / share


def _smallest_around(values: Tensor, reach: int) -> Tensor:
    return -functional.max_pool2d(-values, 2 * reach + 1, stride=1, padding=reach)


def _luma(pictures: Tensor) -> Tensor:  # (N, 1, H, W)
    return torch.einsum("c,ncyx->nyx", pictures.new_tensor(LUMA), pictures)[:, None]
