"""Pickled weights: numpy numbers beside them are read, anything that could run is not."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from magicportrait_core.weight_files import read_pickled


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpy_numbers_beside_the_weights(tmp_path: Path, zipped: bool, module: bytes):
    path = tmp_path / "checkpoint.tar"
    content = {"E_flame": {"w": torch.arange(3.0)}, "rate": np.float64(1e-4), "step": np.int64(7)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    if not zipped:  # as the other numpy wrote it
        for other in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
            path.write_bytes(path.read_bytes().replace(b"c" + other + b"\n", b"c" + module + b"\n"))
    # The numbers themselves do not matter: ComfyUI, where it is in the process, reads None for them.
    assert torch.equal(read_pickled(path)["E_flame"]["w"], torch.arange(3.0))


def test_code_beside_the_weights_is_named_and_not_run(tmp_path: Path):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"w": torch.ones(1), "code": Code()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"bad.pt holds more than weights \(.*mkdir\) and was not opened"):
        read_pickled(tmp_path / "bad.pt")
    assert not (tmp_path / "ran").exists()
