"""The videos of a folder."""

from __future__ import annotations

import os
from pathlib import Path

from training.preparation.records import Job, names_of

SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .m2ts .mts .wmv .flv .ogv .3gp .gif .webp".split()
)


def find_videos(
    folder: Path,  # or a single video
    leave_out: Path | None = None,  # a folder inside it, for example the output
) -> list[Job]:
    """Every video in a folder and those below, by name. Raises FileNotFoundError, NotADirectoryError or
    ValueError of one sentence where there is none."""
    if folder.is_file():
        return [Job(folder, *names_of([folder.name]), folder.name, folder.stat().st_size)]
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give --videos a folder with videos")
    outside = leave_out.resolve() if leave_out else None
    found, files = [], 0
    for top, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if outside is not None and Path(top).resolve() == outside:
            folders.clear()
            continue
        files += len(names)
        found += [Path(top, name) for name in names if Path(name).suffix.lower() in SUFFIXES]
    if not found:
        what = f"{files} files, but no video" if files else "nothing"
        raise ValueError(f"{folder} holds {what}; expected {', '.join(sorted(SUFFIXES))}")
    shown = {path: path.relative_to(folder).as_posix() for path in found}
    found.sort(key=lambda path: shown[path])
    names = names_of([shown[path] for path in found])
    return [
        Job(path, name, shown[path], path.stat().st_size if path.exists() else 0)
        for path, name in zip(found, names, strict=True)
    ]
