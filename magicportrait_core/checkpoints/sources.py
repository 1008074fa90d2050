"""Finds every tensor of a network in the files of a model, strictly, and reads them one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..models.config import UNetConfig
from ..models.unet_blocks import frame_positions
from .content import MOTION, what_is
from .header import TEXT, Header, read_header
from .key_maps import KEY_MAPS
from .presets import APPEARANCE_NET, BY_ROLE, DENOISING_UNET, MOTION_MODULES, ModelFile, describe_files
from .weights import Weights, open_weights

Shapes = Mapping[str, tuple[int, ...]]

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
POSITIONS_END = ".pos_encoder.pe"
POSITIONS_TOLERANCE = 2e-3  # bf16 stores numbers up to 1 to 2**-9


@dataclass(frozen=True)
class Source:
    """Where the tensors of one network are."""

    file: ModelFile
    places: Mapping[str, tuple[Weights, str]]  # name in our network -> file and name there
    header: Header | None = None  # of a converted file
    text: Tensor | None = None  # (1, N, D), stored beside the Denoising UNet

    @property
    def notes(self) -> dict[str, str]:
        """For people: where the file comes from."""
        if self.header:
            return self.header.notes
        return {"source": self.file.source, "licence": self.file.licence}

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored in; ValueError for types that nothing can be computed in."""
        weights, name = self.places["conv_in.weight"]
        dtype = weights.read(name).dtype
        if dtype not in DTYPES:
            raise ValueError(
                f"{weights.name} is stored as {_short(dtype)}, in which the networks cannot compute; "
                "choose float16, bfloat16 or float32 for loading it"
            )
        return dtype

    def tensors(self, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        """Name and a copy in `dtype` of every tensor; ValueError names one that is not finite."""
        for name, (weights, stored) in self.places.items():
            yield name, _converted(weights, stored, dtype)


def locate(file: ModelFile, expected: Shapes, weights: Weights, config: UNetConfig) -> Source:
    """All tensors of a network that lies in one file, published or converted.

    `expected` are the names and shapes of the network. Raises ValueError of one sentence that names the file,
    a tensor and the remedy.
    """
    header = _header(file, weights)
    names = _own_names(weights) if header else KEY_MAPS[file.role].names(weights.shapes)
    _check_known(file, weights, names, expected)
    _check_complete(file, weights, names, expected)
    text = _text(weights, config) if header and file.role == DENOISING_UNET else None
    return Source(file, {name: (weights, names[name]) for name in expected}, header, text)


def locate_denoising_unet(
    file: ModelFile, expected: Shapes, weights: Weights, motion_file: Path | None, config: UNetConfig
) -> Source:
    """All tensors of the Denoising UNet: in one file, or in the published pair of files.

    As in the release, motion modules in denoising_unet come before those of the motion file, which is opened
    when it is needed. Raises ValueError as locate() does, FileNotFoundError when there are no motion modules.
    """
    if read_header(weights):
        return locate(file, expected, weights, config)
    _header(file, weights)
    names = KEY_MAPS[DENOISING_UNET].names(weights.shapes)
    _check_known(file, weights, names, expected)
    _check_complete(file, weights, names, [name for name in expected if MOTION not in name])
    _check_positions(file, weights, config)
    places = {ours: (weights, stored) for ours, stored in names.items()}
    lacking = [name for name in expected if name not in places]
    if lacking and motion_file is None:
        raise FileNotFoundError(
            f"{weights.name} lacks {len(lacking)} tensors of motion modules, and "
            + describe_files([BY_ROLE[MOTION_MODULES]], weights.path.parent)
        )
    if lacking:
        places = _motion_places(open_weights(motion_file), expected, config) | places
    return Source(file, {name: places[name] for name in expected})


def locate_motion_modules(path: Path, expected: Shapes, config: UNetConfig) -> dict[str, tuple[Weights, str]]:
    """The motion modules of the network with the tensors `expected`, in a file of AnimateDiff's layout.

    Raises FileNotFoundError or ValueError as locate() does.
    """
    return _motion_places(open_weights(path), expected, config)


def _motion_places(motion: Weights, expected: Shapes, config: UNetConfig) -> dict[str, tuple[Weights, str]]:
    file = BY_ROLE[MOTION_MODULES]
    expected = {name: shape for name, shape in expected.items() if MOTION in name}
    names = KEY_MAPS[DENOISING_UNET].names(motion.shapes)
    _check_positions(file, motion, config)
    _check_complete(file, motion, names, expected)
    _check_known(file, motion, names, expected)
    return {ours: (motion, stored) for ours, stored in names.items()}


def _own_names(weights: Weights) -> dict[str, str]:
    return {name: name for name in weights.shapes if name != TEXT}


def _header(file: ModelFile, weights: Weights) -> Header | None:
    """The header, which must name this place; None for a published file."""
    header = read_header(weights)
    if header and header.role != file.role:
        raise ValueError(
            f"{weights.name} says in its header that it is {header.role}, but it is in the place of the "
            f"{file.what} ({file.role}); give it its name back, or convert the published files again"
        )
    own_names = any(MOTION in name and ".temporal_transformer." not in name for name in weights.shapes)
    if header is None and (own_names or weights.path.stem == APPEARANCE_NET):
        raise ValueError(
            f"{weights.name} has the name or the tensors of a converted file but no header, so it is not "
            "whole or was saved by another program; convert the published files again"
        )
    return header


def _check_known(file: ModelFile, weights: Weights, names: dict[str, str], expected: Shapes) -> None:
    for ours, stored in names.items():
        shape = weights.shapes[stored]
        if ours in expected and shape != tuple(expected[ours]):
            raise _misplaced(
                file, weights, f"its {stored!r} is {_size(shape)}, expected {_size(expected[ours])}"
            )
    surplus = [stored for ours, stored in names.items() if ours not in expected]
    if surplus:
        raise _misplaced(
            file, weights, f"it has {len(surplus)} tensors too many, the first is {surplus[0]!r}"
        )


def _check_complete(
    file: ModelFile, weights: Weights, names: dict[str, str], expected: Iterable[str]
) -> None:
    lacking = [name for name in expected if name not in names]
    if lacking:
        raise _misplaced(file, weights, f"it lacks {len(lacking)} tensors, the first is {lacking[0]!r}")


def _misplaced(file: ModelFile, weights: Weights, why: str) -> ValueError:
    return ValueError(
        f"{weights.name} does not fit the {file.what}: {why}; it seems to hold {what_is(weights.shapes)}; "
        + file.remedy
    )


def _check_positions(file: ModelFile, weights: Weights, config: UNetConfig) -> None:
    """The stored tables of positions must be the one that the network computes."""
    for name in (name for name in weights.shapes if name.endswith(POSITIONS_END)):
        shape = weights.shapes[name]
        if len(shape) != 3 or shape[1] != config.max_frames:
            raise _misplaced(
                file, weights, f"its {name!r} is {_size(shape)}, expected {config.max_frames} frames"
            )
        table = frame_positions(config.max_frames, shape[2])
        if not torch.allclose(weights.read(name)[0].float(), table, rtol=0, atol=POSITIONS_TOLERANCE):
            raise ValueError(
                f"{name!r} in {weights.name} is not the sinusoidal table that the motion modules add to "
                f"their frames, so they were trained otherwise; use the published {file.published}"
            )


def _text(weights: Weights, config: UNetConfig) -> Tensor | None:
    shape = weights.shapes.get(TEXT)
    if shape is None:
        return None
    if len(shape) != 3 or shape[0] != 1 or shape[2] != config.text_dim:
        raise ValueError(
            f"{TEXT!r} in {weights.name} is {_size(shape)}, expected 1 x tokens x {config.text_dim}; convert "
            "the published files again"
        )
    return weights.read(TEXT).clone()


def _converted(weights: Weights, name: str, dtype: torch.dtype) -> Tensor:
    stored = weights.read(name)
    if not stored.is_floating_point():
        raise ValueError(
            f"{name!r} in {weights.name} is stored as {_short(stored.dtype)} (quantised?); use a file in "
            "float16, bfloat16 or float32"
        )
    tensor = stored.to(dtype, copy=True).contiguous()
    if not _finite(tensor):
        if _finite(stored.float()):
            raise ValueError(
                f"{name!r} in {weights.name} holds {stored.float().abs().max():.3g}, too large for "
                f"{_short(dtype)}; choose bfloat16 or float32"
            )
        raise ValueError(
            f"{name!r} in {weights.name} holds values that are not finite numbers; download or copy it again"
        )
    return tensor


def _finite(tensor: Tensor) -> bool:
    low, high = tensor.aminmax()  # both are NaN where one value is; much faster than looking at each
    return bool(low.isfinite() and high.isfinite())


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
