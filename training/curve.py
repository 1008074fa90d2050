"""The learning curve: a CSV file in the run's folder, the terminal, and any tracker that accelerate knows."""

from __future__ import annotations

import csv
import importlib.util
import os
import time
from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator

from .train_options import TrainOptions

CURVE, VALIDATION = "curve.csv", "validation.csv"
COLUMNS = ("step", "loss", "gradient", "learning_rate", "seconds")
PROJECT = "magicportrait"


def tracker_of(name: str) -> str | None:
    """accelerate's name of the tracker; `auto` is TensorBoard where it is installed."""
    if name == "auto":
        there = any(importlib.util.find_spec(package) for package in ("tensorboard", "tensorboardX"))
        return "tensorboard" if there else None
    return None if name in ("none", "") else name


class Curve:
    """Use as a context manager. Only the main process writes."""

    def __init__(self, options: TrainOptions, accelerator: Accelerator):
        self.options, self.accelerator = options, accelerator
        self.folder = Path(options.run.output)
        self.begun = time.monotonic()
        self._waiting: list[dict[str, float]] = []

    @classmethod
    def open(cls, options: TrainOptions, accelerator: Accelerator, step: int) -> Curve:
        """Goes on behind `step`: what a killed run wrote after its last state is made anew."""
        curve = cls(options, accelerator)
        if accelerator.is_main_process:
            curve.folder.mkdir(parents=True, exist_ok=True)
            for name in (CURVE, VALIDATION):
                _cut(curve.folder / name, step)
        if accelerator.log_with:
            flat = {"options": str(options.to_dict())}
            accelerator.init_trackers(PROJECT, config=flat)
        return curve

    def __enter__(self) -> Curve:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        if self.accelerator.log_with:
            self.accelerator.end_training()

    def add(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """A step that was made."""
        self._waiting.append({"step": step, **values, "seconds": seconds})
        run = self.options.run
        if step % run.log_every and step not in (1, run.steps):
            return
        count = len(self._waiting)
        mean = {name: sum(row[name] for row in self._waiting) / count for name in self._waiting[0]}
        self.accelerator.log({name: mean[name] for name in COLUMNS[1:]}, step=step)
        left = (run.steps - step) * mean["seconds"]
        self.accelerator.print(
            f"step {step}/{run.steps}  loss {mean['loss']:.4f}  gradient {mean['gradient']:.3f}  "
            f"rate {values['learning_rate']:.2e}  {mean['seconds']:.2f} s a step  {_duration(left)} left",
            flush=True,
        )
        self._write()

    def validated(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of the held-out clips."""
        self.accelerator.log(dict(values), step=step)
        text = "  ".join(f"{name} {value:.2f}" for name, value in values.items())
        self.accelerator.print(f"validation at step {step}: {text}", flush=True)
        if self.accelerator.is_main_process:
            _append(self.folder / VALIDATION, [{"step": step, **values}])

    def _write(self) -> None:
        if self._waiting and self.accelerator.is_main_process:
            _append(self.folder / CURVE, self._waiting)
        self._waiting = []


def _append(path: Path, rows: list[dict[str, float]]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        if new:
            writer.writeheader()
        writer.writerows([{name: f"{value:.6g}" for name, value in row.items()} for row in rows])


def _cut(path: Path, step: int) -> None:
    """Keep the rows up to `step`."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    path.unlink()
    kept = [row for row in rows if row.get("step") and int(float(row["step"])) <= step]
    if kept:
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, kept[0].keys(), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        os.replace(part, path)


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
