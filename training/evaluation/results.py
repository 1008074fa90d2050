"""What is kept of a pair, so that a stopped evaluation goes on and another model finds the baselines done."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from magicportrait_core.tensor_files import write_tensors

RESULT, FEATURES, PICTURES = "result.json", "features.safetensors", "side_by_side.mp4"

Measured = dict[str, dict[str, float]]  # method -> metric -> value, NaN: not known


@dataclass(frozen=True)
class PairResults:
    """The folder of a pair. What was kept under another `scene` does not count."""

    folder: Path
    scene: str  # fingerprint of clip, portrait and everything that decides what is measured on them

    @property
    def pictures(self) -> Path:
        return self.folder / PICTURES

    def read(self, settings: dict[str, str]) -> Measured:
        """What is kept of the methods, as far as they have these settings; nothing of a damaged file."""
        try:
            stored = json.loads((self.folder / RESULT).read_text(encoding="utf-8"))
            if stored["scene"] != self.scene:
                return {}
            return {
                method: {k: math.nan if v is None else float(v) for k, v in kept["metrics"].items()}
                for method, kept in stored["methods"].items()
                if settings.get(method) == kept["settings"]
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def write(self, rows: Measured, settings: dict[str, str]) -> None:
        """Replace what is kept at once."""
        methods = {
            method: {
                "settings": settings[method],
                "metrics": {k: v if math.isfinite(v) else None for k, v in metrics.items()},
            }
            for method, metrics in rows.items()
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{RESULT}.{os.getpid()}.part"
        part.write_text(json.dumps({"scene": self.scene, "methods": methods}, indent=1), encoding="utf-8")
        os.replace(part, self.folder / RESULT)

    def read_features(self) -> dict[str, Tensor]:
        """Codes (N, D) by "method/metric"; nothing where there is no file."""
        path = self.folder / FEATURES
        return load_file(path) if path.is_file() else {}

    def write_features(self, features: dict[str, Tensor]) -> None:
        write_tensors(self.folder / FEATURES, features, {"format": "magicportrait_features", "version": "1"})
