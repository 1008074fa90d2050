"""A model folder, opened: every file is found, checked against the networks and ready to be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from torch import nn

from ..models.config import SD15, ModelConfig
from .header import read_header
from .presets import (
    APPEARANCE_NET,
    DENOISING_UNET,
    MOTION_MODULES,
    describe_files,
    describe_missing,
    file_of,
    find_files,
)
from .sources import Source, locate, locate_denoising_unet
from .weights import Weights, open_weights

OnStep = Callable[[int, int], None]  # tensors done, tensors in all


@dataclass(frozen=True)
class Networks:
    """The networks of a model; on the meta device (names and shapes only) until weights are assigned."""

    appearance_net: nn.Module
    denoising_unet: nn.Module
    guidance_encoders: nn.Module

    @classmethod
    def empty(cls, config: ModelConfig) -> Networks:
        from ..models.appearance_net import AppearanceNet
        from ..models.denoising_unet import DenoisingUNet
        from ..models.guidance_encoder import GuidanceEncoders

        with torch.device("meta"):
            return cls(AppearanceNet(config.unet), DenoisingUNet(config.unet), GuidanceEncoders(config))

    def by_role(self) -> dict[str, nn.Module]:
        encoders = {f"guidance_encoder_{name}": net for name, net in self.guidance_encoders.items()}
        return {DENOISING_UNET: self.denoising_unet, APPEARANCE_NET: self.appearance_net, **encoders}


@dataclass(frozen=True)
class OpenModel:
    """What load_model() and convert() read. Popping a source closes its files."""

    config: ModelConfig
    networks: Networks
    sources: dict[str, Source]  # by role


def open_model(folder: Path, config: ModelConfig | None = None) -> OpenModel:
    """Open the files in `folder`; nearly nothing but names and shapes is read.

    Raises FileNotFoundError or ValueError of one sentence for whatever makes the folder unusable.
    """
    if not folder.is_dir():
        raise FileNotFoundError(describe_missing(folder))
    files = find_files(folder)
    if files.missing:
        raise FileNotFoundError(describe_files(files.missing, folder))
    opened = {role: open_weights(path) for role, path in files.paths.items() if role != MOTION_MODULES}
    config = config or _stored_config(opened) or SD15
    networks = Networks.empty(config)
    sources = {}
    for role, network in networks.by_role().items():
        file = file_of(role, files.header)
        if role not in opened:  # the caller's config has more maps than the files
            raise FileNotFoundError(describe_files([file], folder))
        expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        if role == DENOISING_UNET:
            motion = files.paths.get(MOTION_MODULES)
            sources[role] = locate_denoising_unet(file, expected, opened[role], motion, config.unet)
        else:
            sources[role] = locate(file, expected, opened[role], config.unet)
    _check_different(sources)
    return OpenModel(config, networks, sources)


def counter(sources: Mapping[str, Source], on_step: OnStep | None) -> Callable[[], None]:
    """To be called after each tensor; tells `on_step` how many of all are done."""
    done, total = 0, sum(len(source.places) for source in sources.values())

    def step() -> None:
        nonlocal done
        done += 1
        if on_step:
            on_step(done, total)

    return step


def _stored_config(opened: Mapping[str, Weights]) -> ModelConfig | None:
    """The config in the headers of converted files; they must agree."""
    headers = {role: read_header(weights) for role, weights in opened.items()}
    stored = {role: header.config for role, header in headers.items() if header}
    for first, second in combinations(stored, 2):
        if stored[first] != stored[second]:
            raise ValueError(
                f"{opened[first].name} belongs to the model {stored[first].name!r} and {opened[second].name} "
                f"to {stored[second].name!r} of another size; put the files of one model into the folder"
            )
    return next(iter(stored.values()), None)


def _check_different(sources: Mapping[str, Source]) -> None:
    """Published files do not say what they are, so one file under two names is found by its numbers."""
    published = [source for source in sources.values() if source.header is None]
    for first, second in combinations(published, 2):
        if _hold_the_same(first, second):
            names = [source.places["conv_in.weight"][0].name for source in (first, second)]
            raise ValueError(
                f"{names[0]} and {names[1]} hold the same weights, so one is a copy of the other under a "
                f"wrong name; get {first.file.published} and {second.file.published} again"
            )


def _hold_the_same(first: Source, second: Source) -> bool:
    """Compares until the first difference, which is soon found."""
    shared = first.places.keys() & second.places.keys()
    places = [(first.places[name], second.places[name]) for name in sorted(shared)]
    if any(a.shapes[i] != b.shapes[j] for (a, i), (b, j) in places):
        return False
    return all(torch.equal(a.read(i).float(), b.read(j).float()) for (a, i), (b, j) in places)
