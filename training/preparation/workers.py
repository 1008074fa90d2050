"""Videos shared among processes, each with shards of its own; one process where one is asked for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from training.clip_store import ClipWriter
from training.preparation.options import PrepareOptions
from training.preparation.records import Job, VideoRecord, write_record
from training.preparation.station import OutputError, Station, Stopped

SAY_EVERY = 0.5  # seconds
Say = Callable[[str], None]  # shows what is being done


@dataclass(frozen=True)
class Fatal:
    """A worker's last word."""

    sentence: str


@dataclass(frozen=True)
class Plan:
    """What a worker needs to know; goes to other processes."""

    folder: Path
    options: PrepareOptions
    device: str


def prepare_all(plan: Plan, jobs: Sequence[Job], workers: int, say: Say) -> Iterator[VideoRecord]:
    """The record of each video as it is done. Raises ValueError or OSError with one sentence when nothing
    can be done; Ctrl-C ends the workers after the clip that they are at."""
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from _alone(plan, jobs, say)
    else:
        yield from _shared(plan, jobs, workers, say)


def _alone(plan: Plan, jobs: Sequence[Job], say: Say) -> Iterator[VideoRecord]:
    station = _station(plan, 0)
    for job in jobs:
        yield station.prepare(job, say)


def _shared(plan: Plan, jobs: Sequence[Job], workers: int, say: Say) -> Iterator[VideoRecord]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    waiting = list(reversed(jobs))
    crew: dict[Connection, _Worker] = {}
    try:
        for number in range(workers):
            _hire(context, plan, number, stop, crew)
        while crew:
            for connection in wait(list(crew)):
                worker = crew[connection]
                try:
                    word = connection.recv()
                except (EOFError, OSError):  # killed, for example by the system for memory
                    crew.pop(connection)
                    worker.process.join()
                    if worker.job is not None:
                        yield _lost(plan, worker)
                    if waiting:
                        _hire(context, plan, worker.number, stop, crew)
                    continue
                if isinstance(word, Fatal):
                    raise OSError(word.sentence)
                if isinstance(word, str):
                    say(word)
                    continue
                if isinstance(word, VideoRecord):
                    yield word
                worker.job = waiting.pop() if waiting else None
                connection.send(worker.job)
                if worker.job is None:
                    crew.pop(connection)
                    worker.process.join()
    finally:
        stop.set()
        for connection, worker in crew.items():
            connection.close()
            worker.process.join()


@dataclass
class _Worker:
    number: int
    process: multiprocessing.Process
    job: Job | None = None


def _hire(context, plan: Plan, number: int, stop, crew: dict) -> None:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, plan, number, stop), daemon=True)
    process.start()
    theirs.close()
    crew[ours] = _Worker(number, process)


def _lost(plan: Plan, worker: _Worker) -> VideoRecord:
    job, code = worker.job, worker.process.exitcode
    text = f"its process ended unexpectedly (exit code {code}), perhaps for lack of memory"
    record = VideoRecord(job.name, job.shown, job.bytes, error=text, again=True)
    write_record(plan.folder, record)
    return record


def _serve(connection: Connection, plan: Plan, number: int, stop) -> None:
    """The work of one process: asks for videos until there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and sets `stop`
    said = 0.0

    def watch(text: str) -> None:
        nonlocal said
        if stop.is_set():
            raise Stopped
        if time.monotonic() - said > SAY_EVERY:
            said = time.monotonic()
            try:
                connection.send(text)
            except OSError as error:  # the parent is gone
                raise Stopped from error

    try:
        station = _station(plan, number)
        connection.send(None)
        while (job := connection.recv()) is not None:
            connection.send(station.prepare(job, watch))
    except Stopped:
        return
    except (OutputError, ValueError, FileNotFoundError) as error:
        connection.send(Fatal(str(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        sys.exit(1)


def _station(plan: Plan, number: int) -> Station:
    """Loads everything. A worker has one thread: the pictures are small, more would wait for one another."""
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    import torch

    from training.preparation.tools import load_tools

    torch.set_num_threads(1)
    tools = load_tools(plan.options, torch.device(plan.device))
    writer = ClipWriter(plan.folder, prefix=f"part{number}", encoding=plan.options.encoding)
    return Station(plan.folder, plan.options, tools, writer)
