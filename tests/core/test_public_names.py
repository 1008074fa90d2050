"""The package's public face: every listed name exists, is documented, and costs nothing until it is used."""

import subprocess
import sys
from pathlib import Path

import pytest

import magicportrait_core


@pytest.mark.parametrize("name", magicportrait_core.__all__)
def test_a_public_name_exists_and_says_what_it_is(name):
    assert getattr(magicportrait_core, name).__doc__


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = magicportrait_core.no_such_name


def test_importing_the_package_does_not_import_torch():
    code = "import sys, magicportrait_core; print('torch' in sys.modules)"
    folder = Path(magicportrait_core.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
