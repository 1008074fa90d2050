"""The header of converted files: which network it is, of which size, and where it comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ..models.config import ModelConfig
from .weights import Weights

FORMAT = "magicportrait_network"
VERSION = 1
TEXT = "text_embedding"  # (1, N, D) tensor beside the Denoising UNet's weights: the prompt of the training


@dataclass(frozen=True)
class Header:
    """`role` is the stem of the file's usual name; `notes` are for people (source, licence)."""

    role: str
    config: ModelConfig
    notes: dict[str, str] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """Metadata of a safetensors file."""
        values = {"role": self.role, "config": self.config.to_json(), "notes": self.notes}
        return {"format": FORMAT, "version": str(VERSION), "header": json.dumps(values, sort_keys=True)}


def read_header(weights: Weights) -> Header | None:
    """The header of a converted file; None for other files.

    Raises ValueError of one sentence for a file of a newer version and for a damaged header.
    """
    metadata = weights.metadata
    if metadata.get("format") != FORMAT:
        return None
    if metadata.get("version") != str(VERSION):
        raise ValueError(
            f"{weights.name} is a converted network of version {metadata.get('version')}, this pack reads "
            f"version {VERSION}; update the pack or convert the published files again"
        )
    try:
        values = json.loads(metadata["header"])
        return Header(values["role"], ModelConfig.from_json(values["config"]), values["notes"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"the header of {weights.name} is damaged or of a newer pack ({error!r}); update the pack or "
            "convert the published files again"
        ) from error
