"""Noise by frame number: the same for every device, chunk, worker and length of the clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SEEDS = 2**64


def frame_noise(
    seed: int,  # 0 to 2^64 - 1
    frames: Sequence[int],  # frame numbers in the clip
    shape: tuple[int, int, int],  # C, h, w
) -> Tensor:  # (C, F, h, w) float32 on the CPU
    """Standard normal noise; a frame's values depend on the seed and its number alone.

    Each frame has a stream of its own: Philox (Salmon et al. 2011) keyed with both numbers. torch's generator
    on the CPU would keep 32 bits of a seed only.
    """
    if not 0 <= seed < SEEDS:
        raise ValueError(f"seed={seed}; expected 0 to 2^64 - 1")
    noise = torch.empty(shape[0], len(frames), *shape[1:])
    for i, frame in enumerate(frames):
        stream = np.random.Generator(np.random.Philox(key=np.array([seed, frame], dtype=np.uint64)))
        noise[:, i] = torch.from_numpy(stream.standard_normal(shape, dtype=np.float32))
    return noise
