"""How many windows fit into a device's memory, and what to say when not even one does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ..models.config import ModelConfig

# Activations at the peak of one window with guidance, per frame, latent cell and channel of the finest
# level, weights apart. Measured on a CPU at SD 1.5 size, 12 frames, float32: 36 with 32 x 32 cells
# (benchmarks.sampler --size full), 22 with 64 x 64 (at an eighth of the widths), because temporaries are cut
# into slices of one size. The larger one leaves large pictures room for what convolutions borrow on a GPU.
# The small model at its size takes 38, and 49 with guidance; there it is tens of megabytes.
PEAK_VALUES = 36
USABLE = 0.9  # of free memory; allocators lose some to fragments
MOST_WINDOWS = 4  # one window of 24 frames fills a GPU already, and progress and cancelling come per batch


def bytes_per_window(
    config: ModelConfig,
    size: tuple[int, int],  # latent cells, height and width
    dtype: torch.dtype,
    window: int | None = None,  # frames; None: as trained
) -> int:
    """Memory that one more window of a batch takes while it is denoised with guidance."""
    values = PEAK_VALUES * config.unet.block_out_channels[0] * size[0] * size[1] * (window or config.window)
    return values * dtype.itemsize


def windows_that_fit(
    free_bytes: int,  # with the denoising UNet already on the device
    config: ModelConfig,
    size: tuple[int, int],
    dtype: torch.dtype,
    window: int | None = None,
) -> int:
    """Windows per batch, 1 to 4; 1 also where the estimate says that none fits, for it is an estimate."""
    fitting = int(free_bytes * USABLE) // bytes_per_window(config, size, dtype, window)
    return min(max(fitting, 1), MOST_WINDOWS)


def memory_advice(
    config: ModelConfig,
    dtype: torch.dtype,
    size: tuple[int, int],
    window: int,
    free_bytes: int | None = None,  # None: unknown, then each suggestion needs half as much or less
) -> str:
    """What a window needs, and smaller values that would do, for an out-of-memory message."""
    needed = bytes_per_window(config, size, dtype, window)
    limit = needed // 2 if free_bytes is None else int(free_bytes * USABLE)
    remedies = []
    for smaller in _smaller_sizes(size, config.unet.downscale):
        if bytes_per_window(config, smaller, dtype, window) <= limit:
            remedies.append(f"a working size of {_pixels(config, smaller)} pixels")
            break
    frames = window * limit // needed
    if 2 <= frames < window:
        remedies.append(f"windows of {frames} frames")
    if dtype.itemsize > 2 and bytes_per_window(config, size, torch.float16, window) <= limit:
        remedies.append("fp16")
    would_do = f"; any of these would do: {', '.join(remedies)}" if remedies else ""
    precision = str(dtype).removeprefix("torch.")
    return (
        f"a window of {window} frames at {_pixels(config, size)} pixels in {precision} needs about "
        f"{needed / 2**30:.1f} GB besides the weights{would_do}"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA and ROCm have a class for it; MPS and the CPU say it in the text of a RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def _smaller_sizes(size: tuple[int, int], step: int) -> Iterator[tuple[int, int]]:
    """Sizes of about the same aspect in multiples of `step` cells, falling."""
    for longest in range(max(size) - step, 0, -step):
        height, width = (max(step, round(side * longest / max(size) / step) * step) for side in size)
        yield height, width


def _pixels(config: ModelConfig, size: tuple[int, int]) -> str:
    return f"{size[1] * config.pixels_per_cell}x{size[0] * config.pixels_per_cell}"
