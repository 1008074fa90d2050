"""States of renders, kept in the user's folder under names of their own.

A finished one stays for a while: decoding a long clip may fail, and its hours of sampling would be lost.
"""

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
KEPT_BYTES = 2**30  # of states beside the one in use; the oldest go first


def state_file(identity: str, part: int, parts: int, every_steps: int) -> StateFile | None:
    """Where a render keeps its state, None when it is not to be kept. Forgotten states are removed."""
    from ..magicportrait_core.diffusion.state import StateFile

    folder = Path(folder_paths.get_user_directory(), host.MODEL_KIND, FOLDER)
    own = folder / f"{identity}_{part}_of_{parts}.safetensors"
    tidy(folder, own)
    return StateFile(own, every_steps) if every_steps else None


def tidy(folder: Path, own: Path) -> None:
    """Removes states that are old, and the oldest of too many; never `own`."""
    # Path.glob also lists the hidden ".name.part" files of writers that were killed.
    others = [(path, path.stat()) for path in folder.glob("*.safetensors*") if path != own]
    kept = 0
    for path, about in sorted(others, key=lambda state: -state[1].st_mtime):
        kept += about.st_size
        if kept > KEPT_BYTES or time.time() - about.st_mtime > KEPT_SECONDS:
            path.unlink(missing_ok=True)
