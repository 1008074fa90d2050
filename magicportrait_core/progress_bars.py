"""Progress of a long run on the terminal: one bar with the remaining time for each stage."""

from __future__ import annotations

import shutil
import sys
from typing import TextIO

from tqdm import tqdm

TITLES = {
    "convert": "Converting",
    "load": "Loading the model",
    "track": "Following the face",
    "fit": "Fitting the head",
    "warp": "Warping the photo",
    "guidance": "Rendering guidance",
    "sample": "Sampling windows",
    "decode": "Decoding frames",
}


class ProgressBars:
    """A pipeline.OnProgress. Where `out` is no terminal, a line for each stage instead of bars."""

    def __init__(self, out: TextIO | None = None):
        self.out = out or sys.stderr
        self.stage: str | None = None
        self.bar: tqdm | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self.stage:
            self._open(stage, total)
        if self.bar is None:
            return
        # A render that goes on: what was done before says nothing about the speed.
        if self.bar.n == 0 and done > 1:
            self.bar.initial = self.bar.n = self.bar.last_print_n = done - 1
        self.bar.update(done - self.bar.n)

    def note(self, sentence: str) -> None:
        """Say something on a line of its own, between two stages."""
        self.close()
        print(f"note: {sentence}", file=self.out, flush=True)

    def close(self) -> None:
        """Leaves the last bar on the screen as it stands."""
        if self.bar is not None:
            self.bar.close()
        self.bar = None

    def _open(self, stage: str, total: int) -> None:
        self.close()
        self.stage = stage
        if self.out.isatty():
            columns, rows = shutil.get_terminal_size()  # of a usual terminal where it does not say
            self.bar = tqdm(
                desc=f"{TITLES[stage]:<18}", total=total or None, file=self.out, ncols=columns, nrows=rows
            )
        else:
            print(f"{TITLES[stage]} ...", file=self.out, flush=True)
