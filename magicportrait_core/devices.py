"""One network at a time on the device, and how much room is left there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


@contextmanager
def on_device(network: Network, device: torch.device | str | None) -> Iterator[Network]:
    """The network on `device`, and back afterwards; None leaves it where it is."""
    first = next(network.parameters(), None)
    if first is None:  # no weights: it is wherever its inputs are
        yield network
        return
    home = first.device
    try:
        yield network.to(device or home)
    finally:
        network.to(home)


def place(network: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where a network is and in which precision."""
    first = next(network.parameters())
    return first.device, first.dtype


def free_memory(device: torch.device) -> int | None:
    """Bytes that tensors may still take on a device; None where it does not say."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return None


def choose_device(name: str | None = None) -> torch.device:
    """The device called `name`, None: an accelerator if there is one, else the CPU; ValueError if it is not
    there."""
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    there = [*(f"cuda:{i}" for i in range(torch.cuda.device_count())), *there]
    found = {**{device: device for device in there}, "cuda": "cuda:0" if "cuda:0" in there else None}
    device = found.get(name) if name else there[0]
    if device is None:
        raise ValueError(f"device {name!r} is not here; this machine has {', '.join(there)}")
    return torch.device(device)
