"""Results as tables: CSV for programs, Markdown for people."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.evaluation.pictures import mean

TRUTH, STILL, WARP = "truth", "still", "warp"


@dataclass(frozen=True)
class Metric:
    """A column."""

    title: str  # with its unit
    better: int  # 1: more is better, -1: less
    digits: int


METRICS = {
    "psnr_head": Metric("head PSNR, dB", 1, 2),
    "psnr": Metric("PSNR, dB", 1, 2),
    "ssim_head": Metric("head SSIM", 1, 3),
    "ssim": Metric("SSIM", 1, 3),
    "l1_head": Metric("head L1, levels", -1, 2),
    "l1": Metric("L1, levels", -1, 2),
    "landmarks": Metric("landmark error, % of eye distance", -1, 2),
    "apd": Metric("APD, degrees", -1, 2),
    "aed": Metric("AED", -1, 4),
    "flicker": Metric("flicker, levels", -1, 2),
    "flow_error": Metric("flow error, levels", -1, 2),
    "colour_drift": Metric("colour drift, levels", -1, 2),
    "identity": Metric("face shape, % of eye distance", -1, 2),
    "lost": Metric("frames without a face, %", -1, 1),
    "lpips": Metric("LPIPS", -1, 4),
    "csim": Metric("CSIM", 1, 3),
    "fid": Metric("FID", -1, 2),
    "fvd": Metric("FVD", -1, 1),
}


@dataclass(frozen=True)
class Row:
    """What one method made of one clip or pair."""

    pair: str
    method: str
    metrics: dict[str, float]  # NaN: could not be measured here


@dataclass(frozen=True)
class Table:
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())  # sentences for people: what was not computed and why

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.method for row in self.rows))

    def mean(self, method: str, metric: str) -> float:
        """Over all rows of a method in which the metric is a number."""
        return mean([row.metrics.get(metric, math.nan) for row in self.rows if row.method == method])

    def columns(self) -> list[str]:
        """Metrics that are a number somewhere, in the order of METRICS."""
        known = {name for row in self.rows for name, value in row.metrics.items() if math.isfinite(value)}
        return [name for name in METRICS if name in known]


def to_csv(table: Table) -> str:
    """One line per pair and method; empty where a measure was not taken."""
    columns, text = table.columns(), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["pair", "method", *columns])
    for row in table.rows:
        values = [row.metrics.get(name, math.nan) for name in columns]
        writer.writerow([row.pair, row.method, *(f"{v:.6g}" if math.isfinite(v) else "" for v in values)])
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """Verdicts, means per method with their difference from the warp, notes, then every pair."""
    parts = [
        "\n".join(verdicts(table)),
        means(table),
        "\n".join(f"- {note}" for note in table.notes),
        pairs(table),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdicts(table: Table) -> list[str]:
    """A line for every network: in which measures it is better than the warp, and in which worse."""
    lines = []
    for method in table.methods:
        if method in (TRUTH, STILL, WARP):
            continue
        gains = {name: _gain(table, method, name) for name in table.columns()}
        better = [METRICS[name].title.split(",")[0] for name, gain in gains.items() if gain > 0]
        worse = [METRICS[name].title.split(",")[0] for name, gain in gains.items() if gain < 0]
        known = sum(math.isfinite(gain) for gain in gains.values())
        lines.append(
            f"- **{method}**: better than the warp in {len(better)} of {known} measures"
            + (f" ({', '.join(better)})" if better else "")
            + (f"; worse in {', '.join(worse)}" if worse else "")
        )
    return lines


def write_table(folder: Path, table: Table) -> None:
    """table.csv and table.md in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("table.csv", to_csv(table)), ("table.md", to_markdown(table))):
        (folder / name).write_text(text, encoding="utf-8")


def means(table: Table) -> str:
    """One line per method: means, in brackets the difference from the warp, bold where it is better."""
    columns = table.columns()
    lines = [_line(["mean of all", *(METRICS[name].title for name in columns)]), _rule(len(columns))]
    for method in table.methods:
        cells = []
        for name in columns:
            value, warp = table.mean(method, name), table.mean(WARP, name)
            cells.append(_compared(value, warp, METRICS[name], method not in (WARP, TRUTH)))
        lines.append(_line([method, *cells]))
    return "\n".join(lines)


def pairs(table: Table) -> str:
    """One line per pair and method."""
    columns = table.columns()
    lines = [_line(["pair", "method", *(METRICS[name].title for name in columns)]), _rule(len(columns) + 1)]
    for row in table.rows:
        cells = [_number(row.metrics.get(name, math.nan), METRICS[name].digits) for name in columns]
        lines.append(_line([row.pair, row.method, *cells]))
    return "\n".join(lines)


def _compared(value: float, warp: float, metric: Metric, compare: bool) -> str:
    text = _number(value, metric.digits)
    if not compare or not math.isfinite(value) or not math.isfinite(warp):
        return text
    text = f"{text} ({value - warp:+.{metric.digits}f})"
    return f"**{text}**" if _difference(value, warp, metric) * metric.better > 0 else text


def _gain(table: Table, method: str, name: str) -> float:
    """How much better than the warp, in the measure's unit as it is shown; NaN where one is not known."""
    values = table.mean(method, name), table.mean(WARP, name)
    known = all(map(math.isfinite, values))
    return METRICS[name].better * _difference(*values, METRICS[name]) if known else math.nan


def _difference(value: float, other: float, metric: Metric) -> float:
    """As it is shown: what rounding hides is no difference."""
    return round(value - other, metric.digits)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(numbers: int) -> str:
    return "|---|" + "---:|" * numbers
