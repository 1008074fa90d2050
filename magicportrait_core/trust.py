"""How far a small model's correction of the warp is to be trusted: measured on clips whose truth is known.

`python -m training.measure_trust` makes the table; training/small/README.md has the run that these numbers
are from, its clips and its intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .warp.sources import MIRRORED, MOUTH, PHOTO, SOURCES, STRETCHED

JUDGED = (PHOTO, MIRRORED, STRETCHED, MOUTH)  # labels of the head that a correction may change


@dataclass(frozen=True)
class Trust:
    """Shares of a correction by head turn and by label; everything that is not listed is not changed."""

    turns: tuple[float, ...]  # degrees between the sides from which photo and frame show the head, rising
    shares: dict[int, tuple[float, ...]]  # label -> 0..1 for each of the turns

    def __post_init__(self):
        if list(self.turns) != sorted(set(self.turns)):
            raise ValueError(f"turns={self.turns}; expected rising degrees")
        for label, shares in self.shares.items():
            if len(shares) != len(self.turns) or not all(0 <= share <= 1 for share in shares):
                raise ValueError(
                    f"shares of {SOURCES[label]!r} are {shares}; expected {len(self.turns)} from 0 to 1"
                )

    def of(
        self,
        turn: Tensor,  # (N,) degrees
        labels: Tensor,  # (N, 1, h, w) uint8, index into warp.sources.SOURCES
    ) -> Tensor:  # (N, 1, h, w) float32, 0..1
        """The share of every pixel. It runs linearly between the turns and stays beyond the first and the
        last, so that it changes as smoothly as the head turns."""
        known = torch.tensor(self.turns)
        after = torch.searchsorted(known, turn.float().cpu()).clamp(1, len(known) - 1)
        way = (turn.cpu() - known[after - 1]) / (known[after] - known[after - 1])
        table = torch.zeros(len(SOURCES), len(known))
        for label, shares in self.shares.items():
            table[label] = torch.tensor(shares)
        rows = torch.lerp(table[:, after - 1], table[:, after], way.clamp(0, 1))  # (labels, N)
        return torch.stack([row[part.long()] for row, part in zip(rows.T, labels.cpu(), strict=True)]).to(
            labels.device
        )


# Middles of the measured bins: 0-5, 5-10, 10-15, 15-20, 20-30 and more than 30 degrees.
TRUST = Trust(
    (2.5, 7.5, 12.5, 17.5, 25.0, 35.0),
    {
        PHOTO: (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
        MIRRORED: (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        STRETCHED: (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
        MOUTH: (1.0, 1.0, 1.0, 1.0, 0.0, 0.0),
    },
)
