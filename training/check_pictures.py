"""Runs the defaults on strangers' portraits and drivers, measures what is ugly, makes sheets to look at.

    python -m training.check_pictures                                   ComfyUI's template media
    python -m training.check_pictures --more FOLDER                     and pictures and videos of your own
    python -m training.check_pictures --no-templates --more FOLDER --pairs FILE

Every picture is driven by every video with default settings, as preview and by the small model. OUTPUT gets
table.md and table.csv with a row for every pair and renderer, and pairs/PAIR/sheet.png: look at all of them,
because a measure cannot see everything. What the same code made before is kept, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.evaluate import Progress, count

OUTPUT = Path("runs/check_pictures")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done; 1: an error, in one sentence, or pairs beyond the goals; 2: wrong arguments; 130: Ctrl-C."""
    top = parser()
    given = top.parse_args(arguments)
    if given.no_templates and not given.more:
        top.error("--no-templates needs --more FOLDER")
    if given.pairs and not given.more:
        top.error("--pairs needs --more FOLDER with the files it names")
    try:
        return run(given)
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m training.check_pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    help = "pictures (portraits) and videos (drivers) of your own; may be repeated, all folders count as one"
    top.add_argument("--more", type=Path, action="append", default=[], metavar="FOLDER", help=help)
    help = "lines of portrait,driver, files of the --more folders, instead of each with each"
    top.add_argument("--pairs", type=Path, metavar="FILE", help=help)
    top.add_argument("--no-templates", action="store_true", help="leave ComfyUI's template media out")
    help = "spread evenly over each driver's clip; 24"
    top.add_argument("--frames", type=count, default=24, metavar="N", help=help)
    top.add_argument("--preview-only", action="store_true", help="leave the small model out")
    top.add_argument("--output", type=Path, default=OUTPUT, metavar="FOLDER", help=f"results; {OUTPUT}")
    return top


def run(given: argparse.Namespace) -> int:
    """Run and measure all pairs, write the table, and name the pairs beyond the goals."""
    import torch

    from training.evaluation.footage import Tools
    from training.evaluation.network import open_model
    from training.evaluation.ugliness import Suite
    from training.evaluation.ugliness_goals import faults, summary, write_results
    from training.evaluation.ugliness_media import folder_pairs, listed_pairs, template_pairs

    pairs = [] if given.no_templates else template_pairs(given.output / "made")
    if given.more:
        pairs += listed_pairs(given.pairs, given.more) if given.pairs else folder_pairs(given.more)
    model = None if given.preview_only else open_model("small", torch.float32)
    suite = Suite(given.output, Tools.load(), model, given.frames)
    rows, failed = suite.run(pairs, Progress())
    write_results(given.output, rows, failed)
    ugly = [row for row in rows if faults(row)]
    for row in ugly:
        print(f"{row.pair}, {row.method}: {', '.join(faults(row))}")
    for sentence in failed:
        print(f"not made: {sentence}")
    for line in summary(rows):
        if line["goal"]:
            print(", ".join(f"{name} {value}" for name, value in line.items() if value))
    print(f"{given.output / 'table.md'}: {len(rows) - len(ugly)} of {len(rows)} rows within the goals")
    return 1 if ugly or failed else 0


if __name__ == "__main__":
    sys.exit(main())
