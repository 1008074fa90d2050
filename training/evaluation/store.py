"""A model on the clips of a store: what it adds to the warp, before any video is tracked or rendered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from magicportrait_core.correction import corrected
from magicportrait_core.models.config import ModelConfig
from magicportrait_core.models.model import MagicPortraitModel
from magicportrait_core.warped_portrait import WarpedPortrait
from training.clip_store import Clip, ClipStore
from training.evaluation.pictures import picture_metrics
from training.evaluation.stored_clip import WarpedClip, from_levels, sample_stored, to_levels, warped_clip
from training.evaluation.table import STILL, WARP, Row, Table

OnClip = Callable[[int, int], None]  # clips done, of how many; may raise to stop


def ignore(*_: Any) -> None:
    """A callback for those who need none."""


def evaluate_store(
    model: MagicPortraitModel | None,  # None: the baselines alone
    store: ClipStore,
    steps: Sequence[int] = (1, 4),
    limit: int | None = None,  # clips, spread evenly over the store; None: all
    *,
    config: ModelConfig | None = None,  # of the working size, where there is no model
    seed: int = 0,
    on_clip: OnClip = ignore,
) -> Table:
    """Head PSNR, SSIM, flicker and the other picture measures of still portrait, warp and network.

    At the working size: no upsampling, no autoencoder of people's files. Deterministic: each clip starts
    from the noise of `seed`. Networks stay on their device.
    Raises ValueError for an empty store, a damaged clip, and a model or store without a warp.
    """
    if model is None and config is None:
        raise ValueError("there is neither a model nor a config; give one of them")
    config = config if model is None else model.config
    chosen = spread(len(store), limit)
    if not chosen:
        raise ValueError(f"{store.folder} holds no clips; make some first")
    rows: list[Row] = []
    for done, number in enumerate(chosen, start=1):
        clip = store.read(number)
        rows += clip_rows(model, config, clip, steps, seed)
        on_clip(done, len(chosen))
    return Table(tuple(rows))


def clip_rows(
    model: MagicPortraitModel | None, config: ModelConfig, clip: Clip, steps: Sequence[int], seed: int = 0
) -> list[Row]:
    """The rows of one clip: still, warp, and the network with each number of steps."""
    warped = warped_clip(clip, config)
    outputs = {STILL: warped.reference.expand_as(warped.frames), WARP: warped.warp}
    if model is not None:
        text = no_text(model.config) if model.text is None else model.text
        for count in steps:
            sampled = sample_stored(model, config, text, warped, count, seed)
            outputs[method_name(count)] = shown(warped, sampled)
    counted = other_frames(warped)
    return [
        Row(clip.name, name, picture_metrics(output, warped.frames, warped.head, warped.ordered, counted))
        for name, output in outputs.items()
    ]


def shown(clip: WarpedClip, sampled: torch.Tensor) -> torch.Tensor:  # (F, 3, H, W) uint8, both
    """The network's pictures as corrections of the warp, with all the trust that there is: how far a model is
    to be trusted is what is measured here."""
    warped = WarpedPortrait(clip.reference, clip.warp, clip.labels, torch.zeros(len(clip.frames)))
    frames = [corrected(warped[i : i + 1], from_levels(frame), None) for i, frame in enumerate(sampled)]
    return to_levels(torch.stack(frames))


def method_name(steps: int) -> str:
    """The network's row with so many denoising steps."""
    return f"network, {steps} step{'s' * (steps > 1)}"


def no_text(config: ModelConfig) -> torch.Tensor:  # (1, 1, D)
    """What models without a text encoder get."""
    return torch.zeros(1, 1, config.unet.text_dim)


def other_frames(clip: WarpedClip) -> list[int]:
    """The frames that are not the portrait itself, which every method gets right."""
    same = [bool((frame == clip.reference).all()) for frame in clip.frames]
    return [i for i, repeated in enumerate(same) if not repeated]


def spread(count: int, limit: int | None) -> list[int]:
    """`limit` numbers spread evenly over 0 ... count - 1; all where there are not more."""
    if limit is None or limit >= count:
        return list(range(count))
    if limit < 1:
        raise ValueError(f"limit={limit}; expected at least 1 clip")
    return [i * count // limit for i in range(limit)]
