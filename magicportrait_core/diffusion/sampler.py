"""The sampler: denoises a clip step by step, window by window."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .layout import Coupling, Layout, lay_out
from .memory import is_out_of_memory
from .segments import PortraitSegments, Windows
from .state import RenderState, StateFile

if TYPE_CHECKING:
    from .schedule import Schedule

logger = logging.getLogger("magicportrait")

FRAMES_AT_ONCE = 64  # in a step's arithmetic: its temporaries stay small in clips of any length

# Latents (B, C, W, h, w) float32 on the CPU, timestep, frame numbers of the B windows
# -> v (B, C, W, h, w) after classifier-free guidance, on any device, in any precision.
Denoiser = Callable[[Tensor, int, Windows], Tensor]
OnWindow = Callable[[int, int], None]  # windows denoised so far, of how many in all steps; may raise
OnStep = Callable[[int, Tensor], None]  # step from 0, clean estimate (C, K, h, w) of the K covered frames
MemoryAdvice = Callable[[tuple[int, int], int], str]  # (h, w), frames of a window -> memory.memory_advice()


def ignore(*_: Any) -> None:
    """A callback for those who need none."""


@torch.no_grad()
def sample_clip(
    denoise: Denoiser,
    noise: Tensor,  # (C, F, h, w) of the whole clip
    schedule: Schedule,
    windows: Windows,  # of the clip, or one worker's part of them
    *,
    latent_scale: float,  # ModelConfig.latent_scale, noted in the result
    coupling: Coupling = "every_step",
    windows_per_batch: int = 1,
    on_window: OnWindow = ignore,
    on_step: OnStep = ignore,
    state_file: StateFile | None = None,
    fingerprint: str = "",  # of all that decides the result beside noise, schedule and windows
    memory_advice: MemoryAdvice | None = None,
) -> PortraitSegments:
    """Segments of clean latents, one for each window, in the network's scale.

    every_step: a frame that several windows hold has one latent, which moves by the average of their
    predictions (the paper). independent: each window is denoised by itself, so that machines need not talk to
    each other. Frames outside the windows are not computed.

    The latents of the clip stay on the CPU; only `windows_per_batch` windows are with the denoiser at a time.
    Where they do not fit into memory, half as many are tried, and so on; a batch of another size changes
    results by rounding only. With a state file, whatever interrupts the render (a callback that raises, an
    error) leaves a state from which the same call goes on at the next window, and a kill loses `every_steps`
    steps at most; with batches of the same size the result is the same bit for bit.

    Raises ValueError for windows outside the noise, a broken or foreign state file and predictions that are
    not finite, torch.OutOfMemoryError when one window is too much.
    """
    if windows_per_batch < 1:
        raise ValueError(f"windows_per_batch={windows_per_batch}; expected at least 1")
    layout = lay_out(windows, coupling)
    _check_frames(layout, noise)
    start = noise.to("cpu", torch.float32)[:, list(layout.frames)]
    key = _key(fingerprint, start, schedule, layout)
    state = (state_file and state_file.load(key)) or RenderState(start)
    del start
    try:
        while state.step < len(schedule):
            while (first := len(state.predictions)) < len(windows):
                batch = _next_batch(windows, first, windows_per_batch)
                seen = torch.stack([layout.gather(state.latents, window) for window in batch])
                try:
                    predictions = denoise(seen, schedule.timesteps[state.step], _pick(windows, batch))
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    windows_per_batch = _fewer_windows(error, seen, memory_advice)
                    continue
                where = f"step {state.step + 1} of {len(schedule)}"
                state.predictions.extend(_finite(predictions, where, _pick(windows, batch)))
                done = state.step * len(windows) + len(state.predictions)
                on_window(done, len(schedule) * len(windows))
            latents, clean = _next_latents(state, layout, schedule)
            state = RenderState(latents, state.step + 1)
            if state_file and (state.step % state_file.every_steps == 0 or state.step == len(schedule)):
                state_file.save(state, key)
            on_step(state.step - 1, clean[:, list(layout.first_slots)])
    except BaseException:
        if state_file and (state.step or state.predictions):
            state_file.save(state, key)
        raise
    latents = tuple(layout.gather(state.latents, i) for i in range(len(windows)))
    return PortraitSegments(latents, windows, noise.shape[1], latent_scale, fingerprint)


def _check_frames(layout: Layout, noise: Tensor) -> None:
    if noise.ndim != 4 or min(layout.frames) < 0 or max(layout.frames) >= noise.shape[1]:
        raise ValueError(
            f"windows of frames {min(layout.frames)}-{max(layout.frames)} but noise of shape "
            f"{tuple(noise.shape)}; expected (C, F, h, w) with all frames of the clip"
        )


def _key(fingerprint: str, noise: Tensor, schedule: Schedule, layout: Layout) -> str:
    """Fingerprint of a render of these windows: a state belongs to one of them."""
    values = [fingerprint, tuple(noise.shape), schedule.timesteps, layout.frames, layout.slots]
    digest = hashlib.sha256(json.dumps(values).encode())
    digest.update(noise.contiguous().numpy())
    return digest.hexdigest()


def _next_batch(windows: Windows, first: int, limit: int) -> range:
    """Up to `limit` windows of the same length, from `first` on."""
    last = first + 1
    while last < len(windows) and last - first < limit and len(windows[last]) == len(windows[first]):
        last += 1
    return range(first, last)


def _pick(windows: Windows, batch: range) -> Windows:
    return windows[batch.start : batch.stop]


def _finite(predictions: Tensor, where: str, windows: Windows) -> list[Tensor]:
    """The prediction of each window, float32 on the CPU; ValueError where one is not a number."""
    values = list(predictions.to("cpu", torch.float32))
    for window, prediction in zip(windows, values, strict=True):
        if not bool(prediction.isfinite().all()):
            raise ValueError(
                f"the prediction for frames {window[0]}-{window[-1]} in {where} holds values that are not "
                "finite; choose bf16 or fp32 in Load MagicPortrait Model, and if it is fp32 already, check "
                "the model's files"
            )
    return values


def _next_latents(state: RenderState, layout: Layout, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Latents after the step and the clean estimate, both (C, K, h, w), once all windows are predicted."""
    v = layout.average(state.predictions)
    latents, clean = torch.empty_like(v), torch.empty_like(v)
    for first in range(0, v.shape[1], FRAMES_AT_ONCE):
        where = slice(first, first + FRAMES_AT_ONCE)
        now, towards = state.latents[:, where], v[:, where]
        latents[:, where] = schedule.step(now, towards, state.step)
        clean[:, where] = schedule.clean(now, towards, state.step)
    return latents, clean


def _fewer_windows(error: BaseException, seen: Tensor, advice: MemoryAdvice | None) -> int:
    """Half of the windows that did not fit; raises torch.OutOfMemoryError when there was only one."""
    count, _, frames, height, width = seen.shape
    if count > 1:
        logger.warning("out of memory with %d windows at a time; going on with %d", count, count // 2)
        return count // 2
    window = f"a window has {frames} frames of {width}x{height} latent cells"
    what = advice((height, width), frames) if advice else window
    # Without its traceback, whose frames would keep tensors in memory that the host may want to free.
    raise torch.OutOfMemoryError(f"out of memory with a single window: {what}") from error.with_traceback(
        None
    )
