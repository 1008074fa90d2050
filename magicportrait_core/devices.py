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
    home = next(network.parameters()).device
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


def best_device() -> torch.device:
    """The first accelerator that this torch has, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
