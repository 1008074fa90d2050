"""Files that our nodes save into output/ and load from output/ and input/."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from . import host

SUBFOLDER = "magicportrait"  # of output/ and input/: what is listed
EXTENSION = ".safetensors"


def choices(ending: str, without: str | None = None) -> list[str]:
    """Files with an ending, named as the host does: 'a.safetensors', 'magicportrait/a.safetensors [output]'.

    `without` leaves out those of a longer ending.
    """
    inputs, outputs = folder_paths.get_input_directory(), folder_paths.get_output_directory()
    top = sorted(os.listdir(inputs)) if os.path.isdir(inputs) else []
    below = [f"{SUBFOLDER}/{n}" for n in host.files_below(Path(inputs, SUBFOLDER), ending)]
    saved = [f"{SUBFOLDER}/{n} [output]" for n in host.files_below(Path(outputs, SUBFOLDER), ending)]
    names = [*saved, *(n for n in top if n.endswith(ending)), *below]
    return [n for n in names if without is None or not n.removesuffix(" [output]").endswith(without)]


def find(name: str, what: str) -> Path:
    """The file of a listed name, inside the input or output folder; FileNotFoundError is for the user."""
    plain, folder = folder_paths.annotated_filepath(name)
    folder = Path(os.path.abspath(folder or folder_paths.get_input_directory()))
    path = Path(os.path.abspath(folder / plain))  # links to other places are the owner's choice; ".." is not
    if folder not in path.parents or not path.is_file():
        raise FileNotFoundError(
            f"{what} {name!r} is not in {folder}: copy the file there and press R to refresh, or choose "
            "another one."
        )
    return path


def nothing_saved(what: str, save_node: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"There is no {what} to load: save one with {save_node}, or copy a file into "
        f"{Path(folder_paths.get_input_directory(), SUBFOLDER)}, and press R to refresh."
    )


def new_path(filename_prefix: str, ending: str) -> tuple[Path, str]:
    """Where to write the next file of a prefix in the output folder, and how the host calls it."""
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        filename_prefix, folder_paths.get_output_directory()
    )
    path = Path(folder) / f"{name}_{counter:05}_{ending}"
    return path, f"{Path(subfolder, path.name).as_posix()} [output]"
