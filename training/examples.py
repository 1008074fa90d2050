"""Training examples: which frames of which clips make the batch of a step, and what networks see of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from magicportrait_core.models.config import ModelConfig
from magicportrait_core.reference import named
from magicportrait_core.warped_portrait import source_levels
from training.augment import AugmentOptions, augment_clip
from training.batch import Batch
from training.clip_store import MIRRORED_X, Clip, ClipInfo, ClipStore

MIX_ROWS = 1000  # in which every store has its share exactly
ROW, ORDER, MIX = range(3)  # streams of random numbers that a seed has


class Examples:
    """Batches from one or more stores.

    Every window of a store is taken once before any is taken again, in an order drawn anew each time. Windows
    start anywhere, also between the places of the last time.
    """

    def __init__(
        self,
        stores: Sequence[tuple[ClipStore, float]],  # with their share of the rows, any scale
        config: ModelConfig,
        window: int,  # consecutive frames of a row
        batch: int,  # rows of a step, of all processes together
        seed: int,
        augment: AugmentOptions,
    ):
        """Raises ValueError for stores that cannot serve: empty, of another size, without a map."""
        if not stores or batch < 1 or window < 1:
            raise ValueError(
                f"{len(stores)} data folders, batch={batch}, window={window}; expected at least one of each"
            )
        self.config, self.window, self.batch, self.seed, self.augment = config, window, batch, seed, augment
        self._needed = needed_maps(config, augment)
        self.parts = [Part.of(store, weight, config, window, self._needed) for store, weight in stores]
        sizes = {part.size: part for part in self.parts}
        if len(sizes) > 1:
            text = " and ".join(f"{named(size)} in {part.store.folder}" for size, part in sizes.items())
            raise ValueError(f"clips of one training need one size, there are {text}; prepare them alike")
        self._quotas = quotas([part.weight for part in self.parts])
        if 0 in self._quotas:
            few = self.parts[self._quotas.index(0)]
            raise ValueError(
                f"the weight {few.weight:g} of {few.store.folder} is under one row in {MIX_ROWS}; give it "
                "more or leave it out"
            )
        self._order = functools.lru_cache(maxsize=2 * len(stores))(self._new_order)
        self._mix = functools.lru_cache(maxsize=4)(self._new_mix)

    def describe(self) -> str:
        """A line for each store."""
        return "\n".join(part.describe(self.window) for part in self.parts)

    def batch_at(self, step: int, process: int = 0, processes: int = 1) -> Batch:
        """The rows of `step` that belong to one of `processes`: the same for the same arguments.

        The rows of all processes, in their order, are those that a single process would get. ValueError names
        a damaged file.
        """
        if self.batch % processes:
            raise ValueError(
                f"batch={self.batch} does not split among {processes} processes; choose a multiple"
            )
        count = self.batch // processes
        first = step * self.batch + process * count
        return collate([self.clip_at(row) for row in range(first, first + count)], self.config)

    def clip_at(self, row: int) -> Clip:
        """Row number `row` since the start of the training, before networks see it; it has a reference."""
        random = self._random(ROW, row)
        number, draw = self._mix_at(row)
        part = self.parts[number]
        again, place = divmod(draw, part.windows)
        clip, start = part.place(int(self._order(number, again)[place]), random.random())
        return augment_clip(self._read(part, clip, start, random), self.augment, random)

    def _read(self, part: Part, number: int, start: int, random: np.random.Generator) -> Clip:
        clip = part.store.read(number, range(start, start + self.window), self._needed)
        if clip.reference is not None:
            return clip
        frames = part.store.clips[number].frames
        others = [i for i in range(frames) if not start <= i < start + self.window] or list(range(frames))
        still = part.store.read(number, [others[int(random.integers(len(others)))]], ())
        latents = None if still.latents is None else still.latents[0]
        return replace(clip, reference=still.frames[0], reference_latents=latents)

    def _mix_at(self, row: int) -> tuple[int, int]:
        """The store of a row, and how many rows it had before."""
        period, place = divmod(row, MIX_ROWS)
        stores, before = self._mix(period)
        number = int(stores[place])
        return number, period * self._quotas[number] + int(before[place])

    def _new_mix(self, period: int) -> tuple[np.ndarray, np.ndarray]:
        stores = np.repeat(np.arange(len(self.parts)), self._quotas)
        stores = self._random(MIX, period).permutation(stores)
        before = np.zeros(MIX_ROWS, dtype=np.int64)
        for number in range(len(self.parts)):
            mine = stores == number
            before[mine] = np.arange(mine.sum())
        return stores, before

    def _new_order(self, number: int, again: int) -> np.ndarray:
        return self._random(ORDER, number, again).permutation(self.parts[number].windows)

    def _random(self, *key: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, *key))))


@dataclass(frozen=True)
class Part:
    """What a training takes from one store."""

    store: ClipStore
    weight: float
    clips: np.ndarray  # (N,) numbers of the clips that serve
    ends: np.ndarray  # (N,) windows of these clips, summed up
    starts: np.ndarray  # (N,) first frames that a window of the clip can have
    size: tuple[int, int]  # height, width

    @classmethod
    def of(
        cls, store: ClipStore, weight: float, config: ModelConfig, window: int, needed: tuple[str, ...]
    ) -> Part:
        if not weight > 0:
            raise ValueError(f"the weight of {store.folder} is {weight:g}; expected more than 0")
        if not len(store):
            raise ValueError(f"{store.folder} holds no clips; make data there or leave it out")
        for info in store:
            _check(info, store.folder, config, needed)
        used = [i for i, info in enumerate(store) if _serves(info, window)]
        if not used:
            longest = max(info.frames for info in store)
            raise ValueError(
                f"no clip of {store.folder} has {window + (window == 1)} consecutive frames (the longest has "
                f"{longest}{'' if any(info.fps for info in store) else ', single pictures without an order'})"
                "; prepare longer clips or train with a smaller window"
            )
        frames = np.array([store.clips[i].frames for i in used])
        ends = np.cumsum(frames // window)
        return cls(store, weight, np.array(used), ends, frames - window + 1, store.clips[0].size)

    @property
    def windows(self) -> int:
        """Windows that do not overlap."""
        return int(self.ends[-1])

    def place(self, number: int, share: float) -> tuple[int, int]:
        """Clip and first frame of window `number`; `share` (0..1) moves it inside of its part of the clip."""
        i = int(np.searchsorted(self.ends, number, side="right"))
        before = int(self.ends[i - 1]) if i else 0
        start = (number - before + share) * int(self.starts[i]) / (int(self.ends[i]) - before)
        return int(self.clips[i]), min(int(start), int(self.starts[i]) - 1)

    def describe(self, window: int) -> str:
        left = len(self.store) - len(self.clips)
        text = f"{self.store.folder}: {len(self.clips)} clips, {self.windows} windows of {window} frames"
        return text + (f"; {left} clips are too short" if left else "")


def quotas(weights: Sequence[float]) -> list[int]:
    """Rows of each store among MIX_ROWS, by largest remainder."""
    exact = np.array(weights, dtype=np.float64) / sum(weights) * MIX_ROWS
    rows = np.floor(exact).astype(int)
    rows[np.argsort(rows - exact, kind="stable")[: MIX_ROWS - rows.sum()]] += 1
    return rows.tolist()


def needed_maps(config: ModelConfig, augment: AugmentOptions) -> tuple[str, ...]:
    """The maps of a store that a model is trained with."""
    names = [name for name in config.maps if name != "portrait"]
    names += ["sources"] if config.prior is not None and "sources" not in names else []
    names += ["warp"] if config.prior is not None and "warp" not in names else []
    return (*names, MIRRORED_X) if augment.flip and "normal" in names else tuple(names)


def collate(clips: Sequence[Clip], config: ModelConfig) -> Batch:
    """Clips of one length and size as networks read them."""
    maps = [network_maps(clip, config) for clip in clips]
    encoded = config.autoencoder == "vae" and all(
        clip.latents is not None and clip.reference_latents is not None for clip in clips
    )
    return Batch(
        torch.stack([clip.reference for clip in clips]),
        torch.stack([clip.frames for clip in clips]),
        {name: torch.stack([of[name] for of in maps]) for name in maps[0]},
        torch.stack([clip.maps["sources"] for clip in clips]) if config.prior is not None else None,
        torch.stack([clip.latents for clip in clips]) if encoded else None,
        torch.stack([clip.reference_latents for clip in clips]) if encoded else None,
    )


def network_maps(clip: Clip, config: ModelConfig) -> dict[str, Tensor]:  # (F, 3, H, W) uint8 each
    """Every map of a model: depth on three channels, the still reference, sources in classes."""

    def picture(name: str) -> Tensor:
        if name == "portrait":
            return clip.reference.expand_as(clip.frames)
        if name == "sources":
            return source_levels(clip.maps[name])
        return clip.maps[name].expand(-1, 3, -1, -1)

    names = config.maps if config.prior is None else dict.fromkeys((*config.maps, "warp"))
    return {name: picture(name) for name in names}


def _check(info: ClipInfo, folder: Path, config: ModelConfig, needed: tuple[str, ...]) -> None:
    """Raises ValueError for a clip that the model cannot be trained with."""
    clip = f"clip {info.name!r} of {folder}"
    missing = [name for name in needed if name not in info.maps]
    if MIRRORED_X in missing:
        raise ValueError(
            f"{clip} lacks {MIRRORED_X}, which mirroring needs; make the data anew or set flip=0"
        )
    if missing:
        raise ValueError(
            f"{clip} lacks the map {missing[0]}, which the model {config.name!r} reads (it has "
            f"{', '.join(info.maps) or 'none'}); make the data for this model"
        )
    if config.reads_warp and not info.reference:
        raise ValueError(f"{clip} lacks the picture that its warp was made from; make the data anew")
    if min(info.size) != config.side or any(side % config.pixel_multiple for side in info.size):
        raise ValueError(
            f"{clip} is {named(info.size)} pixels, the model {config.name!r} needs a shorter side of "
            f"{config.side} and multiples of {config.pixel_multiple}; make the data in this size"
        )


def _serves(info: ClipInfo, window: int) -> bool:
    """Whether a clip has a window, and a picture to start from."""
    if window == 1:
        return info.reference or info.frames > 1
    return info.frames >= window and info.fps > 0
