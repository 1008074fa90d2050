"""How many windows fit, and what is said when none does."""

import re

import pytest
import torch

from magicportrait_core.diffusion.memory import (
    USABLE,
    bytes_per_window,
    is_out_of_memory,
    memory_advice,
    windows_that_fit,
)
from magicportrait_core.models.config import SD15, SMALL

SIZE = (64, 64)


def test_estimate_at_full_size():
    """36 values a cell, frame and channel: 2160 MiB in fp32 for 12 frames of 512x512."""
    assert bytes_per_window(SD15, SIZE, torch.float32) == 2160 * 2**20
    assert bytes_per_window(SD15, SIZE, torch.bfloat16) == 1080 * 2**20
    assert bytes_per_window(SD15, (32, 64), torch.float32, 24) == 2160 * 2**20


def test_estimate_of_the_small_model():
    """108 MiB in fp32 for 12 frames of 128x128; measured on a CPU: 115, and 148 with guidance."""
    assert bytes_per_window(SMALL, (32, 32), torch.float32) == 108 * 2**20
    assert windows_that_fit(2**30, SMALL, (32, 32), torch.float32) == 4
    text = memory_advice(SMALL, torch.float32, (32, 32), 12, 90 * 2**20)
    assert "a window of 12 frames at 128x128 pixels in float32 needs about 0.1 GB besides" in text
    assert "windows of 9 frames, fp16" in text


@pytest.mark.parametrize(("free_gib", "windows"), [(0, 1), (1, 1), (3.2, 2), (4.5, 3), (8, 4), (140, 4)])
def test_windows_that_fit(free_gib, windows):
    assert windows_that_fit(int(free_gib * 2**30), SD15, SIZE, torch.float16) == windows


@pytest.mark.parametrize("free_bytes", [None, 400 * 2**20, 2**30])
def test_every_value_of_the_advice_would_do(free_bytes):
    text = memory_advice(SD15, torch.float32, SIZE, 12, free_bytes)
    assert "a window of 12 frames at 512x512 pixels in float32 needs about 2.1 GB besides the weights" in text
    limit = bytes_per_window(SD15, SIZE, torch.float32) / 2 if free_bytes is None else free_bytes * USABLE
    width, height = map(int, re.search(r"working size of (\d+)x(\d+) pixels", text).groups())
    assert width % 64 == height % 64 == 0
    assert bytes_per_window(SD15, (height // 8, width // 8), torch.float32) <= limit
    larger = (height // 8 + 8, width // 8 + 8)
    assert bytes_per_window(SD15, larger, torch.float32) > limit
    frames = re.search(r"windows of (\d+) frames", text)
    if frames:
        assert bytes_per_window(SD15, SIZE, torch.float32, int(frames[1])) <= limit
    half_fits = bytes_per_window(SD15, SIZE, torch.float16) <= limit
    assert text.endswith("fp16") == half_fits


def test_advice_keeps_the_portraits_aspect():
    text = memory_advice(SD15, torch.float16, (96, 64), 12, 900 * 2**20)
    assert "at 512x768 pixels" in text
    assert "a working size of 320x512 pixels" in text


def test_no_advice_where_nothing_would_help():
    assert "would do" not in memory_advice(SD15, torch.float16, (8, 8), 1, 0)


def test_out_of_memory_is_told_from_other_errors():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))
