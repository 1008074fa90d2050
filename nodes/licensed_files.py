"""The licensed files that people may fetch themselves: where they go, what is there, what is missing.

Nothing is ever downloaded. Files are found below models/magicportrait, and in folders of
extra_model_paths.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths

from . import host

if TYPE_CHECKING:
    from ..magicportrait_core.tracking.licensed_files import LicensedFile

BUILT_IN = "open_head (built in)"
LANDMARKS, RELEASED = "landmarks (built in)", "DECA + SMIRK (licensed files)"
TRACKERS = (LANDMARKS, RELEASED)
NO_TEXTURE = "none"
HEADS_FOLDER, ENCODERS_FOLDER = "heads", "trackers"  # below models/magicportrait
ENCODER_ENDINGS = (".tar", ".pt", ".pth", ".bin")

FLAME_2020 = f"{HEADS_FOLDER}/generic_model.pkl"
TEXTURE = f"{HEADS_FOLDER}/FLAME_texture.npz"
DECA = f"{ENCODERS_FOLDER}/deca_model.tar"
SMIRK = f"{ENCODERS_FOLDER}/SMIRK_em1.pt"


@dataclass(frozen=True)
class FlameFile:
    """A head file that people may fetch themselves."""

    name: str
    title: str
    licence: str
    site: str = "https://flame.is.tue.mpg.de"


FLAME_FILES = (
    FlameFile("flame2023_Open.pkl", "FLAME 2023 Open", "CC BY 4.0, free registration"),
    FlameFile("flame2023.pkl", "FLAME 2023", "non-commercial research only, free registration"),
    FlameFile("generic_model.pkl", "FLAME 2020", "non-commercial research only, free registration"),
)


@dataclass(frozen=True)
class TrackerFiles:
    """What is chosen in Load FLAME Tracker; places are relative to models/magicportrait."""

    head: str = BUILT_IN
    tracker: str = LANDMARKS
    deca: str = DECA
    smirk: str = SMIRK
    texture: str = TEXTURE
    eyelids: bool = False

    @property
    def released(self) -> bool:
        return self.tracker == RELEASED

    def place(self, file: LicensedFile) -> str:
        """Where the file is, or should be; the built-in head stands for FLAME 2020, which people lack."""
        chosen = {
            "flame": FLAME_2020 if self.head == BUILT_IN else self.head,
            "deca": self.deca,
            "smirk": self.smirk,
            "texture": TEXTURE if self.texture == NO_TEXTURE else self.texture,
        }
        beside = Path(chosen["flame"]).parent  # where core looks for the others
        return chosen.get(file.argument) or (beside / file.name).as_posix()

    def uses(self, file: LicensedFile) -> bool:
        if file.argument == "eyelids":
            return self.eyelids
        return self.texture != NO_TEXTURE or file.argument not in ("texture", "template_obj")

    def used(self) -> dict[str, LicensedFile]:
        """The files that DECA + SMIRK read, by place."""
        from ..magicportrait_core.tracking.licensed_files import LICENSED_FILES

        return {self.place(file): file for file in LICENSED_FILES if self.uses(file)}

    def state(self) -> list[tuple[str, float]]:
        """Which files are there, and of when: the report names those of both trackers."""
        from ..magicportrait_core.tracking.licensed_files import LICENSED_FILES

        paths = [find(place) for place in (self.head, *map(self.place, LICENSED_FILES))]
        return [(str(path), path.stat().st_mtime) for path in paths if path]

    def check(self) -> None:
        """Raises FileNotFoundError naming all missing files, ValueError for what cannot go together."""
        if self.tracker not in TRACKERS:
            raise ValueError(f"tracker is {self.tracker!r}: choose one of {', '.join(TRACKERS)}.")
        if not self.released:
            head_path(self.head)
            return
        missing = {place: file for place, file in self.used().items() if find(place) is None}
        if missing:
            raise FileNotFoundError(missing_files(missing))
        if self.head == BUILT_IN:
            raise ValueError(
                f"DECA and SMIRK speak FLAME 2020's language, not that of {BUILT_IN}: choose {FLAME_2020} as "
                f"head, or '{LANDMARKS}' as tracker."
            )

    def report(self) -> str:
        """What is loaded, and the licensed files one by one: a line each."""
        from ..magicportrait_core.tracking.licensed_files import LICENSED_FILES

        paths = {file.name: find(self.place(file)) for file in LICENSED_FILES}
        needed = [paths[file.name] is not None for file in LICENSED_FILES if file.needed]
        lines = [
            f"{self.tracker}, head {self.head}; {sum(needed)} of {len(needed)} files of DECA + SMIRK are "
            "there",
            f"Licensed files in {host.model_folder()}:",
        ]
        for file in LICENSED_FILES:
            path, absent = paths[file.name], "missing" if file.needed else "not there, optional"
            state = f"there, {path.stat().st_size / 1e6:.1f} MB" if path else absent
            lines.append(f"- {self.place(file)}: {state} ({about(file)})")
        return "\n".join(lines)


def about(file: LicensedFile) -> str:
    return f"{file.what}; {file.size}; licence: {file.licence}; from {file.origin}"


def missing_files(missing: dict[str, LicensedFile]) -> str:
    """One sentence about all files that are not there."""
    each = "; ".join(f"{place} ({about(file)})" for place, file in missing.items())
    return (
        f"DECA + SMIRK lack {len(missing)} file{'s' * (len(missing) > 1)} in {host.model_folder()}: {each}. "
        f"Put them there and press R to refresh, or choose '{LANDMARKS}' as tracker, which needs none; the "
        "node's help page explains each step."
    )


def find(place: str) -> Path | None:
    """The file at a place below models/magicportrait."""
    for name in (place, place.replace("/", "\\")):  # lists made on Windows have the other slash
        path = folder_paths.get_full_path(host.MODEL_KIND, name)
        if path is not None:
            return Path(path)
    return None


def listed() -> list[Path]:
    return [Path(name) for name in folder_paths.get_filename_list(host.MODEL_KIND)]


def head_files() -> list[str]:
    """Head files in models/magicportrait: every .pkl, and .safetensors in a folder called heads."""
    heads = (n for n in listed() if n.suffix == ".pkl" or HEADS_FOLDER in n.parts[:-1])
    return [n.as_posix() for n in heads if n.suffix in (".pkl", ".safetensors")]


def head_choices() -> list[str]:
    """The built-in head, the files that are there, and the names of well-known files that could be."""
    found = head_files()
    there = {Path(name).name for name in found}
    return [BUILT_IN, *found, *(f"{HEADS_FOLDER}/{f.name}" for f in FLAME_FILES if f.name not in there)]


def encoder_choices(published: str) -> list[str]:
    """Files in a folder called trackers; the published one, there or not, comes first."""
    found = (n for n in listed() if ENCODERS_FOLDER in n.parts[:-1] and n.suffix in ENCODER_ENDINGS)
    return _first(published, [n.as_posix() for n in found])


def texture_choices() -> list[str]:
    return [*_first(TEXTURE, [n.as_posix() for n in listed() if n.suffix == ".npz"]), NO_TEXTURE]


def _first(place: str, found: list[str]) -> list[str]:
    return [place, *(name for name in found if name != place)]


def head_path(choice: str) -> Path | None:
    """The file of a choice, None for the built-in head; FileNotFoundError says where to get it."""
    if choice == BUILT_IN:
        return None
    path = find(choice)
    if path is None:
        raise FileNotFoundError(missing_head(choice))
    return path


def missing_head(choice: str) -> str:
    """One sentence: what is missing, where it comes from, under which licence, where it goes."""
    folder = Path(host.model_folder()) / HEADS_FOLDER
    known = next((file for file in FLAME_FILES if file.name == Path(choice).name), None)
    if known is None:
        return (
            f"Head file {choice!r} is not in {host.model_folder()}: put it there (FLAME .pkl or converted "
            f".safetensors, in the folder {HEADS_FOLDER}), or choose '{BUILT_IN}', which needs no file."
        )
    return (
        f"{known.title} ({known.name}) is not installed: get it from {known.site} (licence: "
        f"{known.licence}), put it into {folder} and press R to refresh, or choose '{BUILT_IN}', which "
        "needs no file."
    )
