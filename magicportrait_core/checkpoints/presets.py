"""The files of a model: names, sizes, licences, and where they are found; what a folder lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..models.config import GUIDANCE_MAPS
from .content import has_motion
from .header import Header, read_header
from .weights import SUFFIXES, open_weights

SOURCE = "huggingface.co/mengtingwei/MagicPortrait, folder ckpts"
LICENCE = "Apache-2.0 on that page; the code repository weimengting/MagicPortrait states none"
DENOISING_UNET, MOTION_MODULES, APPEARANCE_NET = "denoising_unet", "motion_modules", "appearance_net"


@dataclass(frozen=True)
class ModelFile:
    """One file of a model."""

    role: str  # stem of the converted file
    published: str  # name in the release
    stems: tuple[str, ...]  # patterns of names without suffix, in the order of preference
    what: str
    size: str = ""  # of the published file in fp32
    source: str = SOURCE  # "": a model's own file, which is where the model is
    licence: str = LICENCE

    @property
    def remedy(self) -> str:
        """What to do about a wrong file in its place."""
        if self.source:
            return f"use the published {self.published} in its place"
        return f"copy {self.published} again from where the model comes from"

    def find(self, folder: Path) -> Path | None:
        """The file in `folder`; ValueError when two would do equally well."""
        for stem in self.stems:
            for suffix in SUFFIXES:
                found = sorted(path for path in folder.glob(f"{stem}{suffix}") if path.is_file())
                if len(found) > 1:
                    names = ", ".join(path.name for path in found)
                    raise ValueError(f"{folder} holds several {self.what}: {names}; keep one of them there")
                if found:
                    return found[0]
        return None


FILES = (
    ModelFile(DENOISING_UNET, "denoising_unet.pth", ("denoising_unet",), "Denoising UNet", "3.4 GB"),
    ModelFile(
        MOTION_MODULES, "motion_module-47360.pth", ("motion_module*",), "motion modules", "1.8 GB"
    ),  # not needed where denoising_unet holds them
    ModelFile(
        APPEARANCE_NET, "reference_unet.pth", ("appearance_net", "reference_unet"), "AppearanceNet", "3.4 GB"
    ),
    *(
        ModelFile(
            f"guidance_encoder_{name}",
            f"guidance_encoder_{name}.pth",
            (f"guidance_encoder_{name}",),
            f"guidance encoder of the {name} maps",
            "15 MB",
        )
        for name in GUIDANCE_MAPS
    ),
)
BY_ROLE = {file.role: file for file in FILES}  # of the release


@dataclass(frozen=True)
class FileSet:
    """The files of one model folder."""

    folder: Path
    paths: dict[str, Path]  # by role, those that are there
    missing: tuple[ModelFile, ...]
    header: Header | None = None  # of the Denoising UNet


def file_of(role: str, header: Header | None) -> ModelFile:
    """What is known of a file; `header` of the model's Denoising UNet, None: as published."""
    released = header is None or header.notes.get("source") == SOURCE
    if released and role in BY_ROLE:
        return BY_ROLE[role]
    what = f"guidance encoder of the {role.rpartition('_')[2]} maps"
    what = BY_ROLE[role].what if role in BY_ROLE else what
    return ModelFile(role, f"{role}.safetensors", (role,), what, source="", licence="")


def find_files(folder: Path) -> FileSet:
    """What is in `folder` and what it lacks. Nothing but the header of denoising_unet is read.

    Converted and trained files say themselves which maps their model has; the published one has three. Raises
    ValueError when two files would do equally well.
    """
    if not folder.is_dir():
        return FileSet(folder, {}, FILES)
    path, header, needed = BY_ROLE[DENOISING_UNET].find(folder), None, dict(BY_ROLE)
    if path is not None:
        holds_motion, header = _peek(path)
        if header:
            encoders = [f"guidance_encoder_{name}" for name in header.config.maps]
            roles = (DENOISING_UNET, MOTION_MODULES, APPEARANCE_NET, *encoders)
            needed = {role: file_of(role, header) for role in roles}
        if holds_motion:
            del needed[MOTION_MODULES]
    found = {role: file.find(folder) for role, file in {**BY_ROLE, **needed}.items()}
    paths = {role: path for role, path in found.items() if path is not None}
    return FileSet(folder, paths, tuple(file for role, file in needed.items() if role not in paths), header)


def describe_missing(folder: Path) -> str:
    """A sentence that names every file that `folder` lacks, its source and its place; "" when none."""
    folder = Path(folder)
    if folder.is_file():
        return f"{folder} is a file; choose the folder with the model's files"
    missing = find_files(folder).missing
    return describe_files(missing, folder) if missing else ""


def describe_files(files: Sequence[ModelFile], folder: Path) -> str:
    """The sentence about `files`, none of which is in `folder`."""
    names = ", ".join(map(_named, files))
    verb = "lacks" if folder.is_dir() else "does not exist; it should hold"
    places = sorted({(file.source, file.licence) for file in files if file.source})
    if not places:
        return f"{folder} {verb} {names}: copy the whole folder again from where the model comes from"
    sources = "; ".join(f"{source} (licence: {licence})" for source, licence in places)
    inner = next(iter(sorted(folder.glob("*/denoising_unet.*"))), None)
    other = f"choose {inner.parent}, which has a Denoising UNet, or " if inner else ""
    return f"{folder} {verb} {names}: {other}{_put(folder, sources)}"


def _named(file: ModelFile) -> str:
    size = f", about {file.size} in fp32" if file.size else ""
    return f"{file.published} ({file.what}{size})"


def _put(folder: Path, sources: str) -> str:
    return f"put the files from {sources} into {folder}; .safetensors files of these names do as well"


def _peek(path: Path) -> tuple[bool, Header | None]:
    """Whether the file holds motion modules, and its header; loading it explains what is wrong with it."""
    try:
        weights = open_weights(path)
        return has_motion(weights.shapes), read_header(weights)
    except (ValueError, OSError):
        return True, None
