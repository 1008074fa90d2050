"""Measures of pictures against the truth, on 8-bit levels as people see them.

PSNR and SSIM are scikit-image's: it is there for the tests already, needs no weights, and gives the local
SSIM of every pixel, from which the head's share is averaged. The rest are plain means, which no library has
for a mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LARGEST_PSNR = 60.0  # dB; rounding to 8 bits alone leaves 58.9, so nobody can see what lies beyond
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
SSIM_SIGMA = 1.5  # pixels, Wang et al. 2004
PICTURE_METRICS = ("psnr_head", "psnr", "ssim_head", "ssim", "l1_head", "l1", "flicker", "colour_drift")


def picture_metrics(
    output: Tensor,  # (F, 3, H, W) uint8
    truth: Tensor,  # (F, 3, H, W) uint8
    head: Tensor,  # (F, 1, H, W) bool, where the head is in the truth
    ordered: bool = True,  # frames follow one another in time
    counted: Sequence[int] | None = None,  # frames that count, but for flicker; None: all
) -> dict[str, float]:
    """All measures that need nothing but pictures, means over the frames; see the functions for each.

    Frames without any head count on the full frame only. NaN where a measure has no frame to look at.
    """
    check_alike(output, truth, head)
    chosen = list(range(len(output)) if counted is None else counted)
    frames = [_frame_metrics(output[i], truth[i], head[i, 0]) for i in chosen]
    metrics = {name: mean([frame[name] for frame in frames]) for name in PICTURE_METRICS[:6]}
    metrics["flicker"] = flicker(output, truth, head) if ordered and len(output) > 1 else float("nan")
    metrics["colour_drift"] = colour_drift(output[chosen], truth[chosen], head[chosen])
    return metrics


def psnr(
    output: Tensor,  # (..., 3, N) or (3, H, W) uint8
    truth: Tensor,  # of the same shape
    where: Tensor | None = None,  # (H, W) bool; None: everywhere
) -> float:
    """Peak signal-to-noise ratio, dB, at most LARGEST_PSNR; NaN where the mask is empty."""
    from skimage.metrics import peak_signal_noise_ratio

    first, second = (_chosen(value, where) for value in (truth, output))
    if not first.size:
        return float("nan")
    if np.array_equal(first, second):
        return LARGEST_PSNR
    return min(float(peak_signal_noise_ratio(first, second, data_range=255)), LARGEST_PSNR)


def ssim_map(
    output: Tensor,  # (3, H, W) uint8
    truth: Tensor,  # (3, H, W) uint8
) -> Tensor:  # (H, W) float64
    """Structural similarity around every pixel, of the luma, with the Gaussian window of Wang et al. 2004."""
    from skimage.metrics import structural_similarity

    weights = torch.tensor(LUMA, dtype=torch.float64)[:, None, None]
    first, second = ((value.double() * weights).sum(0).numpy() for value in (truth, output))
    _, local = structural_similarity(
        first,
        second,
        data_range=255,
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
        full=True,
    )
    return torch.from_numpy(local)


def flicker(
    output: Tensor,  # (F, 3, H, W) uint8, F >= 2
    truth: Tensor,  # (F, 3, H, W) uint8
    head: Tensor,  # (F, 1, H, W) bool
) -> float:
    """dtSSD (Erofeev et al. 2015): root mean square of (change of the output) - (change of the truth) from
    each frame to the next, levels, where both frames show the head. A fault that stays is no flicker."""
    total = count = 0.0
    for i in range(1, len(output)):
        where = head[i - 1, 0] & head[i, 0]
        error = [(output[j].float() - truth[j].float())[:, where] for j in (i - 1, i)]
        total += float((error[1] - error[0]).double().square().sum())
        count += 3 * float(where.sum())
    return (total / count) ** 0.5 if count else float("nan")


def colour_drift(
    output: Tensor,  # (F, 3, H, W) uint8
    truth: Tensor,  # (F, 3, H, W) uint8
    head: Tensor,  # (F, 1, H, W) bool
) -> float:
    """Mean difference, levels, between the head's mean colours in output and truth, over frames and channels.
    Detail and small displacements do not matter to it."""
    return mean(
        [
            float((mean_colour(a, mask[0]) - mean_colour(b, mask[0])).abs().mean())
            for a, b, mask in zip(output, truth, head, strict=True)
        ]
    )


def mean_colour(
    picture: Tensor,  # (3, H, W) uint8
    where: Tensor,  # (H, W) bool
) -> Tensor:  # (3,) levels; NaN where the mask is empty
    return picture.double()[:, where].mean(1)


def check_alike(output: Tensor, truth: Tensor, head: Tensor) -> None:
    """Raises ValueError unless the three belong to the same frames."""
    expected = (len(truth), 1, *truth.shape[-2:])
    if output.shape != truth.shape or tuple(head.shape) != expected or not len(truth):
        raise ValueError(
            f"the output is {tuple(output.shape)}, the truth {tuple(truth.shape)} and the mask "
            f"{tuple(head.shape)}; expected (F, 3, H, W) twice and (F, 1, H, W) with at least one frame"
        )
    if output.dtype != torch.uint8 or truth.dtype != torch.uint8 or head.dtype != torch.bool:
        raise ValueError(
            f"pictures are {output.dtype} and {truth.dtype}, the mask {head.dtype}; expected uint8 levels "
            "and bool"
        )


def mean(values: Sequence[float]) -> float:
    """Of those that are numbers; NaN where none is."""
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")


def _frame_metrics(output: Tensor, truth: Tensor, head: Tensor) -> dict[str, float]:
    local = ssim_map(output, truth)
    difference = (output.float() - truth.float()).abs().mean(0)
    return {
        "psnr_head": psnr(output, truth, head),
        "psnr": psnr(output, truth),
        "ssim_head": float(local[head].mean()),
        "ssim": float(local.mean()),
        "l1_head": float(difference[head].mean()),
        "l1": float(difference.mean()),
    }


def _chosen(picture: Tensor, where: Tensor | None) -> np.ndarray:
    return (picture if where is None else picture[..., where]).numpy()
