"""Makes `magicportrait_core` and `training` importable without the repository root (with its `nodes/`) on
sys.path."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# `python -m pytest` puts the current folder first; there `nodes` would hide ComfyUI's module of that name.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


def _register(name: str, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


# golden_model and toy_model, for every test; last, so that ComfyUI's `nodes` stays in front of tests/nodes.
sys.path.append(str(ROOT / "tests"))

for package in ("magicportrait_core", "training"):
    if package not in sys.modules:
        _register(package, ROOT / package)
