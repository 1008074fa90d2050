"""Unfinished renders, kept in the user's folder under a name of their own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths

from . import host

if TYPE_CHECKING:
    from ..magicportrait_core.diffusion.state import StateFile

FOLDER = "renders"  # user/magicportrait/renders
KEPT_SECONDS = 30 * 24 * 3600  # after that, nobody comes back to a render


def state_file(identity: str, part: int, parts: int, every_steps: int) -> StateFile | None:
    """Where a render keeps its state, None when it is not to be kept. Forgotten states are removed."""
    from ..magicportrait_core.diffusion.state import StateFile

    folder = Path(folder_paths.get_user_directory(), host.MODEL_KIND, FOLDER)
    for path in folder.glob("*.safetensors"):
        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
            path.unlink(missing_ok=True)
    if not every_steps:
        return None
    return StateFile(folder / f"{identity}_{part}_of_{parts}.safetensors", every_steps)
