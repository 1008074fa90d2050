"""Writes a network in the converted format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..models.config import ModelConfig
from ..tensor_files import write_tensors
from .header import TEXT, Header


def write_network(
    path: Path,
    module: nn.Module,
    role: str,
    config: ModelConfig,
    metadata: Mapping[str, str] | None = None,
    text: Tensor | None = None,
) -> Path:
    """Write the weights of a network as they are, with a header; a file that is there is replaced.

    `role`: denoising_unet, appearance_net or guidance_encoder_MAP, also the usual stem of `path`.
    `metadata`: notes for people, such as source and licence. `text` (1, N, D): with denoising_unet.
    """
    tensors = dict(module.state_dict()) | ({} if text is None else {TEXT: text})
    path = Path(path)
    write_tensors(path, tensors, Header(role, config, dict(metadata or {})).to_metadata())
    return path
