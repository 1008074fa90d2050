"""Published files -> one .safetensors file per network, with a header that says what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..models.config import ModelConfig
from ..tensor_files import stream_tensors
from .header import TEXT, Header
from .opening import OnStep, counter, open_model
from .presets import DENOISING_UNET
from .sources import Source


def convert(
    folder: str | Path,
    output: str | Path,
    dtype: torch.dtype | None = None,
    text: Tensor | None = None,
    *,
    overwrite: bool = False,
    config: ModelConfig | None = None,
    on_step: OnStep | None = None,
) -> list[Path]:
    """Write the model of `folder` to the folder `output`; returns the paths of the files.

    dtype: float32, float16 or bfloat16; None keeps what each network is stored in. text (1, N, D): embedding
    of the prompt to store with the Denoising UNet; None keeps one that is there. Networks are never in memory
    as a whole. Each file appears when it is complete.

    Raises what load_model() raises, FileExistsError for files that are there and not to be overwritten, and
    OSError when the disk is full.
    """
    folder, output = Path(folder), Path(output)
    model = open_model(folder, config)
    targets = {role: output / f"{role}.safetensors" for role in model.sources}
    _check_targets(model.sources, targets, overwrite)
    _check_text(text, model.config)
    step = counter(model.sources, on_step)
    for role, path in targets.items():
        _write(
            path, model.sources.pop(role), dtype, model.config, text if role == DENOISING_UNET else None, step
        )
    return list(targets.values())


def _write(
    path: Path,
    source: Source,
    dtype: torch.dtype | None,
    config: ModelConfig,
    text: Tensor | None,
    step: Callable[[], None],
) -> None:
    dtype = dtype or source.dtype
    text = source.text if text is None else text.detach().cpu()
    layout = {name: (dtype, weights.shapes[stored]) for name, (weights, stored) in source.places.items()}
    if text is not None:
        layout[TEXT] = (text.dtype, tuple(text.shape))

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for item in source.tensors(dtype):
            yield item
            step()
        if text is not None:
            yield TEXT, text

    stream_tensors(path, layout, tensors(), Header(source.file.role, config, source.notes).to_metadata())


def _check_targets(sources: Mapping[str, Source], targets: Mapping[str, Path], overwrite: bool) -> None:
    read = {weights.path for source in sources.values() for weights, _ in source.places.values()}
    there = [path for path in targets.values() if path.exists()]
    own = [path for path in there if any(path.samefile(source) for source in read)]
    if own:
        raise FileExistsError(f"{own[0]} is among the files to convert; choose another folder for the result")
    if there and not overwrite:
        names = ", ".join(path.name for path in there)
        raise FileExistsError(
            f"{there[0].parent} already holds {names}; choose another folder or allow overwriting"
        )


def _check_text(text: Tensor | None, config: ModelConfig) -> None:
    width = config.unet.text_dim
    if text is not None and (text.ndim != 3 or text.shape[0] != 1 or text.shape[2] != width):
        raise ValueError(
            f"the text embedding has shape {tuple(text.shape)}, expected (1, tokens, {width}); make it with "
            "the text encoder of SD 1.5"
        )
