"""Clips made by several processes, in order."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import torch

from magicportrait_core.guidance import one_thread
from training.clip_store import Clip

from .clips import Workshop, make_clip

AHEAD = 4  # clips a worker that are made before they are asked for
_workshops: list[Workshop] = []  # one, of a worker process


def clips_made(workshop: Workshop, numbers: Sequence[int], workers: int) -> Iterator[Clip]:
    """The clips of these numbers in this order, whatever the number of workers."""
    if workers <= 1 or len(numbers) <= 1:
        with one_thread():
            for number in numbers:
                yield make_clip(workshop, number)
        return
    context = multiprocessing.get_context("spawn")  # forks of a process with threads may hang
    count = min(workers, len(numbers))
    with ProcessPoolExecutor(count, context, _start, (workshop,)) as pool:
        ahead: deque = deque()
        try:
            for number in numbers:
                ahead.append(pool.submit(_make, number))
                if len(ahead) > AHEAD * count:
                    yield _with(ahead.popleft().result(), torch.from_numpy)
            while ahead:
                yield _with(ahead.popleft().result(), torch.from_numpy)
        except BrokenProcessPool as error:
            raise OSError(
                "a worker process ended by itself, perhaps for want of memory; run the same command with "
                f"fewer than --workers {workers}"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start(workshop: Workshop) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends the pool
    torch.set_num_threads(1)  # work is shared out by clips
    _workshops.append(workshop)


def _make(number: int) -> Clip:
    # Arrays travel as bytes; tensors would hold a file handle each until the parent has read them.
    return _with(make_clip(_workshops[0], number), lambda tensor: tensor.numpy())


def _with(clip: Clip, change) -> Clip:
    maps = {name: change(value) for name, value in clip.maps.items()}
    return replace(clip, frames=change(clip.frames), maps=maps, reference=change(clip.reference))
