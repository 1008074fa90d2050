"""The licensed files that people may fetch themselves: where they go, what is there, what is missing.

Nothing is ever downloaded. Files are found below models/magicportrait, and in folders of
extra_model_paths.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import folder_paths

from . import host

BUILT_IN = "open_head (built in)"
LANDMARKS, RELEASED = "landmarks (built in)", "DECA + SMIRK (licensed files)"
TRACKERS = (LANDMARKS, RELEASED)
NO_TEXTURE = "none"
HEADS_FOLDER, ENCODERS_FOLDER = "heads", "trackers"  # below models/magicportrait
ENCODER_ENDINGS = (".tar", ".pt", ".pth", ".bin")

FLAME_SITE = "https://flame.is.tue.mpg.de"
DECA_SITE = "https://github.com/yfeng95/DECA"
SMIRK_SITE = "https://github.com/georgeretsi/smirk"
RESEARCH = "non-commercial research only"
REGISTERED = f"{RESEARCH}, free registration"


@dataclass(frozen=True)
class LicensedFile:
    """A published file."""

    name: str
    what: str
    licence: str
    site: str = FLAME_SITE
    size: str = ""  # of the published file, about
    folder: str = HEADS_FOLDER

    @property
    def place(self) -> str:
        return f"{self.folder}/{self.name}"


FLAME_2020 = LicensedFile(
    "generic_model.pkl", "FLAME 2020, the head", REGISTERED, f"{FLAME_SITE} (FLAME 2020)", "50 MB"
)
FLAME_FILES = (
    LicensedFile("flame2023_Open.pkl", "FLAME 2023 Open", "CC BY 4.0, free registration"),
    LicensedFile("flame2023.pkl", "FLAME 2023", REGISTERED),
    FLAME_2020,
)
TEMPLATE = LicensedFile(
    "head_template.obj", "FLAME's texture coordinates", RESEARCH, f"{DECA_SITE} (folder data)", "1 MB"
)
TEXTURE = LicensedFile(
    "FLAME_texture.npz",
    "FLAME's skin, for the render map",
    REGISTERED,
    f"{FLAME_SITE} (Texture Space)",
    "600 MB or more",
)
EYELIDS = tuple(
    LicensedFile(
        f"{side}_eyelid.npy", "eyelids, optional", RESEARCH, f"{SMIRK_SITE} (folder assets)", "0.1 MB"
    )
    for side in ("l", "r")
)
DECA = LicensedFile(
    "deca_model.tar",
    "DECA's encoder; not to be unpacked",
    RESEARCH,
    f"{DECA_SITE} (trained model, see its README)",
    "430 MB",
    ENCODERS_FOLDER,
)
SMIRK = LicensedFile(
    "SMIRK_em1.pt",
    "SMIRK's encoder",
    f"code MIT, made with FLAME: {RESEARCH}",
    f"{SMIRK_SITE} (see its README)",
    "15 MB or more",
    ENCODERS_FOLDER,
)


@dataclass(frozen=True)
class TrackerFiles:
    """What is chosen in Load FLAME Tracker; places are relative to models/magicportrait."""

    head: str = BUILT_IN
    tracker: str = LANDMARKS
    deca: str = DECA.place
    smirk: str = SMIRK.place
    texture: str = TEXTURE.place
    eyelids: bool = False

    @property
    def released(self) -> bool:
        return self.tracker == RELEASED

    def used(self) -> list[tuple[LicensedFile, str]]:
        """The files that DECA + SMIRK would read, and where they are expected. The built-in head stands for
        FLAME 2020 here: it is what people have to get."""
        head = FLAME_2020.place if self.head == BUILT_IN else self.head
        files = [(known(head) or FLAME_2020, head), (DECA, self.deca), (SMIRK, self.smirk)]
        beside = [TEMPLATE] if self.texture != NO_TEXTURE else []
        files += [(TEXTURE, self.texture)] if self.texture != NO_TEXTURE else []
        beside += EYELIDS if self.eyelids else []
        folder = Path(head).parent
        return files + [(file, (folder / file.name).as_posix()) for file in beside]

    def missing(self) -> list[tuple[LicensedFile, str]]:
        return [(file, place) for file, place in self.used() if find(place) is None]

    def paths(self) -> list[Path]:
        """Every file that is read and there."""
        places = [place for _, place in self.used()] if self.released else [self.head]
        return [path for path in map(find, places) if path is not None]

    def check(self) -> None:
        """Raises FileNotFoundError naming all missing files, ValueError for what cannot go together."""
        if self.tracker not in TRACKERS:
            raise ValueError(f"tracker is {self.tracker!r}: choose one of {', '.join(TRACKERS)}.")
        if not self.released:
            head_path(self.head)
            return
        if missing := self.missing():
            raise FileNotFoundError(missing_files(missing))
        if self.head == BUILT_IN:
            raise ValueError(
                f"DECA and SMIRK speak FLAME 2020's language, not {BUILT_IN}'s: choose {FLAME_2020.place} as "
                f"head, or '{LANDMARKS}' as tracker."
            )


def known(place: str) -> LicensedFile | None:
    """The head file of that name, if it is a published one."""
    return next((file for file in FLAME_FILES if file.name == Path(place).name), None)


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
    return [BUILT_IN, *found, *(file.place for file in FLAME_FILES if file.name not in there)]


def encoder_choices(file: LicensedFile) -> list[str]:
    """Files in a folder called trackers; the published one, there or not, comes first."""
    found = (n for n in listed() if ENCODERS_FOLDER in n.parts[:-1] and n.suffix in ENCODER_ENDINGS)
    return _first(file.place, [n.as_posix() for n in found])


def texture_choices() -> list[str]:
    return [*_first(TEXTURE.place, [n.as_posix() for n in listed() if n.suffix == ".npz"]), NO_TEXTURE]


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
    file = known(choice)
    if file is None:
        return (
            f"Head file {choice!r} is not in {host.model_folder()}: put it there (FLAME .pkl or converted "
            f".safetensors, in the folder {HEADS_FOLDER}), or choose '{BUILT_IN}', which needs no file."
        )
    return (
        f"{file.what} ({file.name}) is not installed: get it from {file.site} (licence: "
        f"{file.licence}), put it into {folder} and press R to refresh, or choose '{BUILT_IN}', which "
        "needs no file."
    )


def missing_files(missing: list[tuple[LicensedFile, str]]) -> str:
    """One sentence about all files that are not there."""
    each = "; ".join(
        f"{place} ({file.what}; {_about(file)}licence: {file.licence}; from {file.site})"
        for file, place in missing
    )
    return (
        f"DECA + SMIRK lack {len(missing)} file{'s' * (len(missing) > 1)} in {host.model_folder()}: {each}. "
        f"Put them there and press R to refresh, or choose '{LANDMARKS}' as tracker, which needs none; the "
        "node's help page explains each step."
    )


def files_report(files: TrackerFiles) -> str:
    """What is loaded, and the licensed files one by one: a line each."""
    used = [*files.used(), *((file, file.place) for file in EYELIDS if not files.eyelids)]
    lines = [f"{files.tracker}, head {files.head}", f"Licensed files in {host.model_folder()}:"]
    for file, place in used:
        path = find(place)
        state = "missing" if path is None else f"present ({path.stat().st_size / 1e6:.1f} MB)"
        lines.append(
            f"- {place}: {state}; {file.what}; {_about(file)}licence: {file.licence}; from {file.site}"
        )
    return "\n".join(lines)


def _about(file: LicensedFile) -> str:
    return f"about {file.size}; " if file.size else ""
