"""What is here and what is missing, file by file."""

import inspect

from magicportrait_core.tracking.licensed_files import (
    LICENSED_FILES,
    describe_licensed_files,
    find_licensed_files,
)
from magicportrait_core.tracking.released_files import load_released_tracker


def test_every_file_is_an_argument_of_the_loader():
    assert {file.argument for file in LICENSED_FILES} <= set(
        inspect.signature(load_released_tracker).parameters
    )


def test_files_are_found_and_missing_ones_described(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    (second / "deca_model.tar").touch()
    (second / "generic_model.pkl").touch()
    (first / "generic_model.pkl").touch()
    found = find_licensed_files([first, second])
    assert found == {
        "generic_model.pkl": first / "generic_model.pkl",
        "deca_model.tar": second / "deca_model.tar",
    }
    lines = describe_licensed_files([first, second]).splitlines()
    assert len(lines) == len(LICENSED_FILES)
    assert lines[0] == "generic_model.pkl: found (FLAME 2020, the head)"
    missing = next(line for line in lines if line.startswith("SMIRK_em1.pt"))
    assert "missing" in missing and "github.com/georgeretsi/smirk" in missing and str(first) in missing
    assert "not there, optional" in lines[-1]
