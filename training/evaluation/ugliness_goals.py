"""Goals of the ugliness suite, and its table."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.evaluation.table import Row

PREVIEW, SMALL = "preview", "small model"


@dataclass(frozen=True)
class Goal:
    """A measure, and what a pair and the median of all pairs may have."""

    title: str
    digits: int = 3
    most: float = math.inf
    least: float = -math.inf
    median: float = math.inf  # at most

    @property
    def judged(self) -> bool:
        """Say whether a pair can fail by it."""
        return math.isfinite(self.most) or math.isfinite(self.least)

    def met(self, value: float) -> bool:
        """Say whether a value is within the goal; what could not be measured is."""
        return not math.isfinite(value) or self.least <= value <= self.most

    @property
    def badness(self) -> int:
        """Return 1 where large values are bad, -1 where small ones are."""
        return -1 if math.isfinite(self.least) else 1


GOALS = {
    "lips": Goal("lips, outer-eye distances, by shares", most=0.08, median=0.02),
    "lips_gap": Goal("lip gap, outer-eye distances, as it is"),
    "lids": Goal("lids, share of the widest", most=0.15, median=0.05),
    "turn": Goal("turn, degrees off", 1, most=2.0),
    "gain": Goal("turn followed, slope", 2, least=0.95),
    "over": Goal("yaw beyond the photo's limits, degrees", 1, most=3.0),
    "largest_turn": Goal("largest turn, degrees", 0),
    "driver_turn": Goal("driver's largest turn, degrees", 0),
    "far": Goal("changed outside of people, worst frame", 4, most=0.01),
    "contrast_min": Goal("contrast over the warp, least", 3, least=0.95),
    "contrast_max": Goal("contrast over the warp, most", 3, most=1.05),
    "faces": Goal("frames with another number of faces", 2, most=0.0),
    "amplitude": Goal("expression amplitude over the driver's", 2, least=0.9),
    "amplitude_asked": Goal("the same of what the alignment asks for", 2),
    "amplitude_mouth": Goal("of the mouth", 2),
    "amplitude_lids": Goal("of the lids", 2),
    "amplitude_brows": Goal("of the brows", 2),
    "still": Goal("head stands still", 0, most=0.0),
    "shut": Goal("mouth does not open", 0, most=0.0),
}


def faults(row: Row) -> list[str]:
    """Return the measures in which a row is beyond its goals, with their values."""
    return [
        f"{name} {_number(row.metrics[name], goal.digits)}"
        for name, goal in GOALS.items()
        if name in row.metrics and not goal.met(row.metrics[name])
    ]


def summary(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return a line for every renderer and judged measure: median, worst, and how many pairs are beyond."""
    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        for name, goal in GOALS.items():
            known = [(v, r.pair) for r in rows if r.method == method and math.isfinite(v := _of(r, name))]
            if not known:
                continue
            middle = statistics.median(value for value, _ in known)
            worst, pair = max(known, key=lambda entry: goal.badness * entry[0])
            met = "yes" if middle <= goal.median else "NO"
            beyond = sum(not goal.met(value) for value, _ in known)
            lines.append(
                {
                    "renderer": method,
                    "measure": name,
                    "median": _number(middle, goal.digits),
                    "worst": _number(worst, goal.digits),
                    "in pair": pair,
                    "beyond": f"{beyond} of {len(known)}" if goal.judged else "",
                    "goal": _goal(goal),
                    "median met": met if math.isfinite(goal.median) else "",
                }
            )
    return lines


def to_csv(rows: Sequence[Row]) -> str:
    """Write one line per pair and renderer; empty where a measure was not taken."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["pair", "renderer", *GOALS, "beyond"])
    for row in rows:
        values = [_of(row, name) for name in GOALS]
        cells = [f"{v:.6g}" if math.isfinite(v) else "" for v in values]
        writer.writerow([row.pair, row.method, *cells, "; ".join(faults(row))])
    return text.getvalue()


def to_markdown(rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """Write the summary, notes, and every pair; values beyond their goal are bold."""
    lines = summary(rows)
    parts = [_table(list(lines[0]), [list(line.values()) for line in lines])] if lines else []
    passed = sum(not faults(row) for row in rows)
    parts.append(f"{passed} of {len(rows)} rows meet all goals of a pair.")
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    cells = [[row.pair, row.method, *(_cell(row, name) for name in GOALS)] for row in rows]
    parts.append(_table(["pair", "renderer", *GOALS], cells))
    parts.append("\n".join(f"- `{name}`: {goal.title}" for name, goal in GOALS.items()))
    return "\n\n".join(parts) + "\n"


def write_results(folder: Path, rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Write table.csv and table.md into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("table.csv", to_csv(rows)), ("table.md", to_markdown(rows, notes))):
        (folder / name).write_text(text, encoding="utf-8")


def _of(row: Row, name: str) -> float:
    return row.metrics.get(name, math.nan)


def _cell(row: Row, name: str) -> str:
    value, goal = _of(row, name), GOALS[name]
    text = _number(value, goal.digits)
    return text if goal.met(value) else f"**{text}**"


def _goal(goal: Goal) -> str:
    limits = (("<=", goal.most), (">=", goal.least), ("median <=", goal.median))
    return ", ".join(f"{sign} {limit:g}" for sign, limit in limits if math.isfinite(limit))


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))
