"""The moving average of the weights that learn: steadier than the weights, and what is kept in the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

WARM_UP = 10  # steps; an average of the first steps should not remember the untrained weights


class MovingAverage:
    """average <- decay average + (1 - decay) weights, after each step. A decay of 0 keeps the weights."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float):
        self.parameters, self.decay = dict(parameters), decay
        self.average = {
            name: value.detach().clone(memory_format=torch.preserve_format)
            for name, value in self.parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after step 0, 1, ... into the average; the decay rises to its value."""
        decay = min(self.decay, (1 + step) / (WARM_UP + step))
        values = [value.detach() for value in self.parameters.values()]
        torch._foreach_lerp_(list(self.average.values()), values, 1 - decay)

    def state(self) -> dict[str, Tensor]:
        return self.average

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self.average.items():
            value.copy_(state[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The networks have the average as their weights; afterwards they have their own again."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, value in self.parameters.items():
            value.data, self.average[name] = self.average[name], value.data
