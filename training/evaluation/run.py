"""Measures pair after pair and keeps each result, so that a stopped evaluation goes on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor

from magicportrait_core.tensor_files import write_tensors
from training.evaluation.footage import Footage, OnStage, Tools, read_clip, read_portrait
from training.evaluation.learned import LearnedMetrics, frechet_distance
from training.evaluation.measure import measure
from training.evaluation.motion import flow_error
from training.evaluation.pairs import Pair
from training.evaluation.scene import Scene, cross_scene, self_scene
from training.evaluation.side_by_side import write_side_by_side
from training.evaluation.table import STILL, TRUTH, WARP, Row, Table

BASELINES = (STILL, WARP)
RESULT, FEATURES, PICTURES = "result.json", "features.safetensors", "side_by_side.mp4"

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
                kept = self.kept(pair)
                new = kept or self.measure(pair, reader, partial(_unfinished, tell))
                rows += new
                tell(summary(new) + " (kept)" * bool(kept), True)
            except (ValueError, OSError) as error:
                failed.append(f"{pair.name}: {error}")
                tell(f"failed: {error}", True)
        table = Table((*rows, *self.distances(pairs)), (*self.learned.notes, *failed))
        return table, failed

    def kept(self, pair: Pair) -> list[Row] | None:
        """The rows of an earlier run with the same settings and files."""
        try:
            stored = json.loads((self.folder(pair) / RESULT).read_text(encoding="utf-8"))
            if stored["settings"] != self.settings(pair):
                return None
            return [
                Row(pair.name, method, {k: math.nan if v is None else v for k, v in metrics.items()})
                for method, metrics in stored["rows"].items()
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def measure(self, pair: Pair, reader: _Reader, on_stage: OnStage) -> list[Row]:
        """Render, measure, and write the results of one pair."""
        scene = reader.scene(pair, on_stage)
        columns = {
            "portrait": scene.portrait[None],
            "driver" if scene.truth is None else TRUTH: scene.driver.frames,
        }
        rows, features = {}, {}
        if scene.truth is not None:
            rows[TRUTH] = {"flow_error": flow_error(scene.truth, scene.request.track, self.tools.head)}
            features |= self._features(TRUTH, scene.truth)
        for method in self.methods:
            on_stage(method.name)
            frames = method.frames(scene, self.tools, on_stage)
            on_stage(f"measuring {method.name}")
            rows[method.name] = measure(scene, frames, self.tools) | self.learned.of_output(
                frames, scene.truth, scene.portrait
            )
            columns[method.name] = frames
            if scene.truth is not None:
                features |= self._features(method.name, frames)
        on_stage("writing")
        folder = self.folder(pair)
        folder.mkdir(parents=True, exist_ok=True)
        write_side_by_side(folder / PICTURES, columns, scene.driver.fps)
        if features:
            write_tensors(folder / FEATURES, features, {"format": "magicportrait_features", "version": "1"})
        self._write(pair, rows)
        return [Row(pair.name, method, metrics) for method, metrics in rows.items()]

    def distances(self, pairs: Iterable[Pair]) -> list[Row]:
        """FID and FVD of every method over all clips with a truth."""
        files = [self.folder(pair) / FEATURES for pair in pairs if pair.mode == "self"]
        stored = [load_file(path) for path in files if path.is_file()] if self.learned.features else []

        def gathered(method: str, kind: str) -> Tensor:
            parts = [codes for part in stored if len(codes := part.get(f"{method}/{kind}", ()))]
            return torch.cat(parts) if parts else torch.zeros(0, 0)

        rows = []
        for method in [method.name for method in self.methods] if stored else []:
            metrics = {
                kind: frechet_distance(gathered(method, kind), gathered(TRUTH, kind))
                for kind in self.learned.features
            }
            rows.append(Row("all clips", method, metrics))
        return rows

    def folder(self, pair: Pair) -> Path:
        return self.output / "pairs" / re.sub(r"[^\w.-]+", "_", pair.name)

    def settings(self, pair: Pair) -> str:
        """Fingerprint of all that decides a pair's results."""
        files = [
            (str(path), path.stat().st_size, path.stat().st_mtime_ns)
            for path in (pair.driver, pair.portrait)
            if path is not None
        ]
        learned = (
            self.learned.lpips is not None,
            self.learned.csim is not None,
            *sorted(self.learned.features),
        )
        methods = [(method.name, method.settings) for method in self.methods]
        return hashlib.sha256(
            repr((files, learned, methods, self.max_frames, self.crop)).encode()
        ).hexdigest()[:32]

    def _features(self, method: str, frames: Tensor) -> dict[str, Tensor]:
        return {f"{method}/{kind}": of(frames) for kind, of in self.learned.features.items()}

    def _write(self, pair: Pair, rows: dict[str, dict[str, float]]) -> None:
        path = self.folder(pair) / RESULT
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        plain = {
            method: {k: v if math.isfinite(v) else None for k, v in metrics.items()}
            for method, metrics in rows.items()
        }
        text = json.dumps({"pair": pair.name, "settings": self.settings(pair), "rows": plain}, indent=1)
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)


def summary(rows: Sequence[Row]) -> str:
    """The most telling measure of each method, for the line of a pair."""
    name = "psnr_head" if any("psnr_head" in row.metrics for row in rows) else "landmarks"
    values = [f"{row.method} {row.metrics[name]:.2f}" for row in rows if name in row.metrics]
    return f"{'head PSNR' if name == 'psnr_head' else 'landmark error'}: {', '.join(values)}"


def _unfinished(tell: Callable[[str, bool], None], stage: str) -> None:
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
