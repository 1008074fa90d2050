"""The released guidance's files that users get from their owners: what, whose, where, which are here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..head.flame_files import EYELIDS, RESEARCH_LICENCE, TEMPLATE_OBJ
from ..head.texture_space import FILE as TEXTURE
from .encoder_files import DECA, SMIRK
from .released_tracker import FLAME

FLAME_SITE = "flame.is.tue.mpg.de, free registration"


@dataclass(frozen=True)
class LicensedFile:
    argument: str  # of load_released_tracker
    name: str  # published
    what: str
    licence: str
    origin: str
    size: str
    needed: bool = True


LICENSED_FILES = (
    LicensedFile(
        "flame", FLAME, "FLAME 2020, the head", RESEARCH_LICENCE, f"{FLAME_SITE}: FLAME 2020", "about 50 MB"
    ),
    LicensedFile(
        "template_obj",
        TEMPLATE_OBJ,
        "texture coordinates of the head",
        "DECA licence: non-commercial research, Max Planck Institute",
        "github.com/yfeng95/DECA, folder data",
        "about 1 MB",
    ),
    LicensedFile(
        "texture",
        TEXTURE,
        "the skin, for the render map",
        "texture space licence: non-commercial research, Max Planck Institute",
        f"{FLAME_SITE}: Texture Space",
        "several hundred MB",
    ),
    LicensedFile("deca", DECA.file, DECA.what, DECA.licence, DECA.origin, "about 430 MB"),
    LicensedFile("smirk", SMIRK.file, SMIRK.what, SMIRK.licence, SMIRK.origin, "over 14 MB"),
    *(
        LicensedFile(
            "eyelids",
            name,
            "an eyelid, not part of the released guidance",
            SMIRK.licence,
            "github.com/georgeretsi/smirk, folder assets",
            "under 1 MB",
            needed=False,
        )
        for name in EYELIDS
    ),
)


def find_licensed_files(folders: Iterable[str | Path]) -> dict[str, Path]:
    """The files that are there, by published name; the first folder that has one counts."""
    folders = [Path(folder) for folder in folders]
    found = {}
    for file in LICENSED_FILES:
        path = next((p for folder in folders if (p := folder / file.name).is_file()), None)
        if path is not None:
            found[file.name] = path
    return found


def describe_licensed_files(folders: Iterable[str | Path]) -> str:
    """A line for each file: whether it is there, what it is, and where to get it."""
    folders = list(folders)
    found = find_licensed_files(folders)
    lines = []
    for file in LICENSED_FILES:
        if file.name in found:
            lines.append(f"{file.name}: found ({file.what})")
        else:
            state = "missing" if file.needed else "not there, optional"
            lines.append(
                f"{file.name}: {state} ({file.what}, {file.size}); get it from {file.origin} "
                f"({file.licence}) and put it into {folders[0]}"
            )
    return "\n".join(lines)
