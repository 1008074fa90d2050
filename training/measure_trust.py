"""Measures how far the small model's corrections are to be trusted; see training/evaluation/trust.py.

    python -m training.measure_trust --videos FOLDER [FOLDER ...] --output FOLDER

Takes clips of people that the model was not trained on. OUTPUT gets trust.md and, in a file of its own, what
each clip says, so that a stopped run goes on. The table that is printed belongs in
magicportrait_core/trust.py, the report in the model's card.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

FRAMES = 40  # of a clip, spread evenly
SLOWEST = 3.0  # frames a second below which the tracker loses a face between two frames


def main(arguments: list[str] | None = None) -> int:
    """0: done; 1: an error, said in one sentence; 2: wrong arguments."""
    given = parser().parse_args(arguments)
    try:
        return run(given)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m training.measure_trust",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = top.add_argument
    add("--videos", type=Path, nargs="+", required=True, metavar="FOLDER", help="clips of one face each")
    add("--model", default="small", metavar="FOLDER", help="a small model; the built-in one")
    add("--frames", type=int, default=FRAMES, metavar="N", help=f"of a clip, spread evenly; {FRAMES}")
    add("--output", type=Path, required=True, metavar="FOLDER", help="where the results go")
    return top


def run(given: argparse.Namespace) -> int:
    """Measure clip after clip, then print the table."""
    import torch

    from magicportrait_core.media.video import open_video
    from magicportrait_core.trust import TRUST
    from magicportrait_core.warp.sources import SOURCES
    from training.evaluation.footage import VIDEO_SUFFIXES, Tools, read_clip
    from training.evaluation.network import open_model
    from training.evaluation.pairs import files_in
    from training.evaluation.trust import Sums, measure_clip, report, table_of

    files = [file for folder in given.videos for file in files_in(folder, VIDEO_SUFFIXES, "videos")]
    given.output.mkdir(parents=True, exist_ok=True)
    tools, model = Tools.load(), open_model(given.model, torch.float32)
    sums: dict[str, Sums] = {}
    for file in {file.stem: file for file in files}.values():
        kept = given.output / f"{file.stem}.pt"
        if kept.is_file():
            sums[file.stem] = Sums(**torch.load(kept, weights_only=True))
            continue
        video = open_video(file)
        rate = float(video.fps) * min(1.0, given.frames / max(video.num_frames, 1))
        try:
            clip = read_clip(file, tools, given.frames, fps=max(rate, min(SLOWEST, float(video.fps))))
            one = measure_clip(clip, model, tools, TRUST, lambda stage: None)
        except ValueError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        torch.save(vars(one), kept)
        sums[file.stem] = one
        print(f"{len(sums)} clips, {file.stem} done", file=sys.stderr, flush=True)
    if not sums:
        raise ValueError("no clip could be measured; give clips in which one face stays visible")
    text, table = report(sums), table_of(sums)
    (given.output / "trust.md").write_text(text, encoding="utf-8")
    rows = "\n".join(f"    {SOURCES[label].upper()}: {shares}," for label, shares in table.shares.items())
    print(f"{text}\nTrust(\n    {table.turns},\n{rows}\n)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
