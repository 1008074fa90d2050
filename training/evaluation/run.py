"""Measures pair after pair and keeps each result, so that a stopped evaluation goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from training.evaluation.footage import Footage, OnStage, Tools, read_clip, read_portrait
from training.evaluation.learned import LearnedMetrics, frechet_distance
from training.evaluation.measure import measure
from training.evaluation.motion import flow_error
from training.evaluation.pairs import Pair
from training.evaluation.results import Measured, PairResults
from training.evaluation.scene import Scene, cross_scene, self_scene
from training.evaluation.side_by_side import write_side_by_side
from training.evaluation.table import STILL, TRUTH, WARP, Row, Table

BASELINES = (STILL, WARP)
VERSION = 1  # of what is measured: results of another one are made again

# Pairs done, of how many, this one, what happens with it, and whether that is the last of it; may raise.
OnPair = Callable[[int, int, Pair, str, bool], None]


class Method(Protocol):
    """A way to make the portrait move."""

    name: str
    settings: str  # everything that decides its frames

    def frames(self, scene: Scene, tools: Tools, on_stage: OnStage) -> Tensor:
        """(F, 3, H, W) uint8, of the portrait's size."""


@dataclass(frozen=True)
class Baseline:
    """The still portrait or the flow warp."""

    name: str
    settings: str = "1"

    def frames(self, scene: Scene, tools: Tools, on_stage: OnStage) -> Tensor:
        if self.name == WARP:
            return scene.warped.warp_levels
        return scene.portrait.expand(scene.num_frames, -1, -1, -1)


@dataclass(frozen=True)
class Evaluation:
    """What is measured, how, and where the results go."""

    output: Path
    methods: Sequence[Method]
    tools: Tools
    learned: LearnedMetrics = LearnedMetrics()
    max_frames: int | None = 100
    crop: bool = True

    def run(self, pairs: Sequence[Pair], on_pair: OnPair) -> tuple[Table, list[str]]:
        """The table of all pairs and a sentence for every pair that failed."""
        reader = _Reader(self.tools, self.max_frames, self.crop)
        rows: list[Row] = []
        failed: list[str] = []
        for done, pair in enumerate(pairs):
            tell = partial(on_pair, done, len(pairs), pair)
            try:
                kept = self.results(pair).read(self.settings)
                whole = all(method.name in kept for method in self.methods)
                new = kept if whole else self.measure(pair, kept, reader, partial(unfinished, tell))
                order = [TRUTH] * (TRUTH in new) + [method.name for method in self.methods]
                rows += [Row(pair.name, name, new[name]) for name in order]
                tell(summary(new) + " (kept)" * whole, True)
            except (ValueError, OSError, MemoryError, torch.OutOfMemoryError) as error:
                failed.append(f"{pair.name}: {error}")
                tell(f"failed: {error}", True)
        table = Table((*rows, *self.distances(pairs)), (*self.learned.notes, *failed))
        return table, failed

    def measure(self, pair: Pair, kept: Measured, reader: _Reader, on_stage: OnStage) -> Measured:
        """Render all methods, measure those that are not kept, and write the results of one pair."""
        scene, results = reader.scene(pair, on_stage), self.results(pair)
        columns = {
            "portrait": scene.portrait[None],
            "driver" if scene.truth is None else TRUTH: scene.driver.frames,
        }
        rows, features = dict(kept), results.read_features() if kept else {}
        if scene.truth is not None and TRUTH not in rows:
            rows[TRUTH] = {"flow_error": flow_error(scene.truth, scene.request.track, self.tools.head)}
            features |= self._features(TRUTH, scene.truth)
        for method in self.methods:
            on_stage(method.name)
            frames = columns[method.name] = method.frames(scene, self.tools, on_stage)
            if method.name in kept:
                continue
            on_stage(f"measuring {method.name}")
            learned = self.learned.of_output(frames, scene.truth, scene.portrait)
            rows[method.name] = measure(scene, frames, self.tools) | learned
            if scene.truth is not None:
                features |= self._features(method.name, frames)
        on_stage("writing")
        results.folder.mkdir(parents=True, exist_ok=True)
        write_side_by_side(results.pictures, columns, scene.driver.fps)
        if features:
            results.write_features(features)
        results.write(rows, self.settings)
        return rows

    def distances(self, pairs: Iterable[Pair]) -> list[Row]:
        """FID and FVD of every method over all clips with a truth."""
        if not self.learned.features:
            return []
        stored = [self.results(pair).read_features() for pair in pairs if pair.mode == "self"]

        def gathered(method: str, kind: str) -> Tensor:
            parts = [codes for part in stored if len(codes := part.get(f"{method}/{kind}", ()))]
            return torch.cat(parts) if parts else torch.zeros(0, 0)

        def metrics(method: str) -> dict[str, float]:
            kinds = self.learned.features
            return {kind: frechet_distance(gathered(method, kind), gathered(TRUTH, kind)) for kind in kinds}

        return [Row("all clips", method.name, metrics(method.name)) for method in self.methods]

    @property
    def settings(self) -> dict[str, str]:
        """By method, what decides its frames; the truth is there always."""
        return {TRUTH: ""} | {method.name: method.settings for method in self.methods}

    def results(self, pair: Pair) -> PairResults:
        """Where a pair's results are kept, and for which scene."""
        files = [
            (str(path), path.stat().st_size, path.stat().st_mtime_ns)
            for path in (pair.driver, pair.portrait)
            if path is not None
        ]
        learned = (self.learned.lpips is None, self.learned.csim is None, *sorted(self.learned.features))
        scene = repr((VERSION, files, learned, self.max_frames, self.crop))
        return PairResults(
            self.output / "pairs" / pair.folder, hashlib.sha256(scene.encode()).hexdigest()[:32]
        )

    def _features(self, method: str, frames: Tensor) -> dict[str, Tensor]:
        return {f"{method}/{kind}": of(frames) for kind, of in self.learned.features.items()}


def summary(rows: Measured) -> str:
    """The most telling measure of each method, for the line of a pair."""
    name = "psnr_head" if any("psnr_head" in metrics for metrics in rows.values()) else "landmarks"
    values = [f"{method} {metrics[name]:.2f}" for method, metrics in rows.items() if name in metrics]
    return f"{'head PSNR' if name == 'psnr_head' else 'landmark error'}: {', '.join(values)}"


def unfinished(tell: Callable[[str, bool], None], stage: str) -> None:
    tell(stage, False)


class _Reader:
    """Reads clips and portraits; the one that comes next again is not tracked anew."""

    def __init__(self, tools: Tools, max_frames: int | None, crop: bool):
        self.tools, self.max_frames, self.crop = tools, max_frames, crop
        self._clip = lru_cache(maxsize=2)(self._read_clip)
        self._portrait = lru_cache(maxsize=2)(self._read_portrait)

    def scene(self, pair: Pair, on_stage: OnStage) -> Scene:
        on_stage("tracking")
        clip = self._clip(pair.driver)
        if pair.portrait is None:
            return self_scene(pair.name, clip, self.tools, on_stage)
        return cross_scene(pair.name, self._portrait(pair.portrait), clip, self.tools, on_stage)

    def _read_clip(self, path: Path) -> Footage:
        return read_clip(path, self.tools, self.max_frames, self.crop)

    def _read_portrait(self, path: Path) -> Footage:
        return read_portrait(path, self.tools, self.crop)
