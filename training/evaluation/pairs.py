"""What is measured: which portrait is driven by which clip."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.evaluation.footage import PICTURE_SUFFIXES, VIDEO_SUFFIXES

MODES = ("self", "cross")


@dataclass(frozen=True)
class Pair:
    """A clip that drives a portrait; without a portrait it drives a frame of its own."""

    driver: Path
    portrait: Path | None = None

    @property
    def mode(self) -> str:
        return "self" if self.portrait is None else "cross"

    @property
    def name(self) -> str:
        """Of its rows."""
        return (
            f"self {self.driver.stem}"
            if self.portrait is None
            else f"{self.portrait.stem} by {self.driver.stem}"
        )

    @property
    def folder(self) -> str:
        return re.sub(r"[^\w.-]+", "_", self.name)


def find_pairs(
    videos: Path,
    portraits: Path | None,
    modes: Sequence[str],
    pairs_file: Path | None = None,  # lines of portrait,driver instead of every portrait with every driver
) -> list[Pair]:
    """All pairs, self-reenactment first. Raises ValueError or OSError for folders and files without any."""
    drivers = files_in(videos, VIDEO_SUFFIXES, "videos")
    found = [Pair(driver) for driver in drivers] if "self" in modes else []
    if "cross" in modes and pairs_file is not None:
        found += read_pairs(pairs_file, portraits or pairs_file.parent, videos)
    elif "cross" in modes:
        if portraits is None:
            raise ValueError("cross-reenactment needs pictures of people: give --portraits FOLDER")
        pictures = files_in(portraits, PICTURE_SUFFIXES, "pictures")
        found += [Pair(driver, picture) for picture in pictures for driver in drivers]
    names = [pair.folder for pair in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"several files make the pair {twice[0]!r}; give them names of their own")
    return found


def files_in(folder: Path, suffixes: Sequence[str], what: str) -> list[Path]:
    """The files of a kind in a folder, by name."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give one with {what}")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.is_file())
    if not files:
        raise ValueError(f"{folder} holds no {what} ({', '.join(suffixes)}); give another folder")
    return files


def read_pairs(path: Path, portraits: Path, videos: Path) -> list[Pair]:
    """Lines of portrait,driver: names in the folders, or paths."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in csv.reader(file) if any(cell.strip() for cell in line)]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file; expected lines of portrait,driver") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if len(line) != 2:
            raise ValueError(f"line {number} of {path} has {len(line)} entries; expected portrait,driver")
        portrait, driver = (
            folder / cell.strip() for folder, cell in zip((portraits, videos), line, strict=True)
        )
        for file in (portrait, driver):
            if not file.is_file():
                raise FileNotFoundError(f"line {number} of {path}: there is no file {file}")
        found.append(Pair(driver, portrait))
    return found
