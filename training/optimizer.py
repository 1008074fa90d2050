"""AdamW over what learns, and its learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from .train_options import OptimizerOptions

FUSED = ("cuda", "cpu")  # devices with a single kernel for all parameters


def new_optimizer(
    parameters: Iterable[nn.Parameter], options: OptimizerOptions, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW; ImportError of one sentence where 8 bits are wanted and bitsandbytes is not there."""
    values = {
        "lr": options.learning_rate,
        "betas": tuple(options.betas),
        "weight_decay": options.weight_decay,
    }
    if not options.eight_bit:
        return torch.optim.AdamW(list(parameters), fused=device.type in FUSED, **values)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ImportError(
            "optimizer.eight_bit needs the package bitsandbytes, which is not installed: run "
            '"pip install bitsandbytes", or set optimizer.eight_bit=false'
        ) from error
    return AdamW8bit(list(parameters), **values)


def learning_rate_at(step: int, options: OptimizerOptions, steps: int) -> float:
    """The learning rate of step 0, 1, ...; `steps` is the length of the run."""
    rise = min(1.0, (step + 1) / max(1, options.warmup))
    progress = min(1.0, step / (options.decay_steps or steps))
    left = {
        "constant": 1.0,
        "linear": 1 - progress,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
    }[options.decay]
    floor = options.floor if options.decay != "constant" else 0.0
    return options.learning_rate * rise * (floor + (1 - floor) * left)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value
