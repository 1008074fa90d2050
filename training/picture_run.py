"""Draws what a training run wrote: its learning curve, and how its pictures of held-out clips changed.

    python -m training.picture_run runs/appearance runs/motion --output pictures

Writes curve_<run>.png and samples_<run>.png for each run folder. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path

CURVE, VALIDATION, SHEETS = "curve.csv", "validation.csv", "validation"  # what a run's folder holds
SHOWN_STEPS = 4  # sheets of a run that are compared
SMOOTHING = 50  # points of the loss that a mean is taken over
LABEL_HEIGHT = 22  # pixels
Columns = dict[str, list[float]]  # of a CSV file


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        for run in given.runs:
            for path in picture_run(run, given.output):
                print(path)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m training.picture_run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="--output of a training command")
    top.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="pictures go here")
    return top


def picture_run(run: Path, output: Path) -> list[Path]:
    """The pictures of a run that were written; FileNotFoundError for a folder that is no run's."""
    if not (run / CURVE).is_file():
        raise FileNotFoundError(f"{run} has no {CURVE}: name the --output folder of a training command")
    curve = read_columns(run / CURVE)
    validation = read_columns(run / VALIDATION) if (run / VALIDATION).is_file() else {}
    output.mkdir(parents=True, exist_ok=True)
    written = [output / f"curve_{run.name}.png"]
    draw_curve(curve, validation, run.name, written[0])
    sheets = sorted((run / SHEETS).glob("step_*.png"))
    if sheets and validation:
        written.append(output / f"samples_{run.name}.png")
        draw_samples(sheets, column_names(validation), written[1])
    return written


def read_columns(path: Path) -> Columns:
    """Numbers of a CSV file by the names in its first line; what is not a number is NaN."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or "step" not in rows[0]:
        raise ValueError(f"{path} holds no steps: the run wrote nothing yet, or it is another file")
    return {name: [_number(row[name]) for row in rows] for name in rows[0]}


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def smoothed(values: Sequence[float], reach: int = SMOOTHING) -> list[float]:
    """The mean of each value and those up to `reach` - 1 before it."""
    means = []
    for i in range(len(values)):
        last = values[max(0, i + 1 - reach) : i + 1]
        means.append(sum(last) / len(last))
    return means


def draw_curve(curve: Columns, validation: Columns, title: str, path: Path) -> None:
    """The loss, and the head's PSNR of held-out clips where it was measured."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("matplotlib is missing, which draws the curve: pip install matplotlib") from error
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(curve["step"], curve["loss"], color="0.8", linewidth=0.6)
    left.plot(curve["step"], smoothed(curve["loss"]), color="tab:blue", label=f"mean of {SMOOTHING} points")
    left.set(title=f"{title}: loss", xlabel="step", ylabel="loss")
    left.legend()
    draw_validation(right, validation)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def draw_validation(axes, validation: Columns) -> None:
    """PSNR of the head; its gain over the warp where there is one, beside which the portrait is far down."""
    axes.set(title="held-out clips", xlabel="step")
    if not validation:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    baselines = {name: validation[name][-1] for name in ("still", "warp") if name in validation}
    ground = validation.get("warp", [0.0] * len(validation["step"]))
    for name in (name for name in validation if name.startswith("steps_")):
        gains = [value - warp for value, warp in zip(validation[name], ground, strict=True)]
        axes.plot(validation["step"], gains, marker=".", label=label_of(name))
    axes.set(ylabel="head PSNR, dB" + (" above the warp" if "warp" in baselines else ""))
    if "warp" in baselines:
        axes.axhline(0, color="0.3", linestyle="--", label=f"warp, {baselines['warp']:.2f} dB")
    axes.plot([], [], " ", label=f"still portrait, {baselines['still']:.2f} dB")
    axes.legend()


def column_names(validation: Columns) -> list[str]:
    """Columns of a validation sheet, left to right; see training.validation."""
    others = [name for name in validation if name not in ("step", "still")]
    return ["still", "truth", *others]


def label_of(name: str) -> str:
    """A name in validation.csv, for people."""
    if name.startswith("steps_"):
        count = name.removeprefix("steps_")
        return f"{count} step" + ("s" if count != "1" else "")
    return "still portrait" if name == "still" else name


def draw_samples(sheets: Sequence[Path], names: Sequence[str], path: Path) -> None:
    """Portrait, truth and warp once, then what the networks made of them as the training went on."""
    from PIL import Image

    pictures = [Image.open(sheet).convert("RGB") for sheet in spread(sheets, SHOWN_STEPS)]
    steps = [int(sheet.stem.removeprefix("step_")) for sheet in spread(sheets, SHOWN_STEPS)]
    side = pictures[-1].width // len(names)
    if (
        any(picture.size != pictures[-1].size for picture in pictures)
        or side * len(names) != pictures[-1].width
    ):
        raise ValueError(f"the sheets beside {sheets[-1]} do not have {len(names)} columns of one size")
    fixed = [i for i, name in enumerate(names) if not name.startswith("steps_")]
    learned = [i for i, name in enumerate(names) if name.startswith("steps_")]
    columns = [(label_of(names[i]), pictures[-1], i) for i in fixed]
    columns += [(f"step {step}", picture, learned[0]) for step, picture in zip(steps, pictures, strict=True)]
    columns += [(f"{label_of(names[i])}", pictures[-1], i) for i in learned[1:]]
    labelled(columns, side).save(path)


def labelled(columns: Sequence[tuple[str, object, int]], side: int):
    """A picture of columns, each cut from a sheet and under its name."""
    from PIL import Image, ImageDraw

    height = columns[0][1].height
    canvas = Image.new("RGB", (side * len(columns), height + LABEL_HEIGHT), (24, 26, 30))
    draw = ImageDraw.Draw(canvas)
    for place, (label, sheet, column) in enumerate(columns):
        canvas.paste(
            sheet.crop((column * side, 0, (column + 1) * side, height)), (place * side, LABEL_HEIGHT)
        )
        draw.text((place * side + 4, LABEL_HEIGHT // 2), label, fill=(225, 228, 232), anchor="lm")
    return canvas


def spread(items: Sequence[Path], count: int) -> list[Path]:
    """Up to `count` items from the first to the last, evenly."""
    count = min(count, len(items))
    return [items[round(i * (len(items) - 1) / max(1, count - 1))] for i in range(count)]


if __name__ == "__main__":
    sys.exit(main())
