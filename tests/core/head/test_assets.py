from dataclasses import fields

import pytest
import torch
from safetensors.torch import save_file

from magicportrait_core.head.assets import ASSETS, head_provenance, load_head, read_head, save_head
from magicportrait_core.head.files import HeadFileError


@pytest.fixture(scope="module")
def head():
    return load_head()


def test_saving_and_reading_gives_the_same_head(head, tmp_path):
    save_head(head, tmp_path / "head.safetensors", {"source": "a test"})
    again = read_head(tmp_path / "head.safetensors")
    for field in fields(head):
        one, other = getattr(head, field.name), getattr(again, field.name)
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, other), field.name
        elif field.name != "landmarks":
            assert one == other
    assert torch.equal(head.landmarks.triangles, again.landmarks.triangles)
    assert head_provenance(tmp_path / "head.safetensors") == {"source": "a test"}


def test_half_precision_costs_less_than_five_hundredths_of_a_millimetre(head, tmp_path):
    save_head(head, tmp_path / "full.safetensors")
    save_head(head, tmp_path / "half.safetensors", half=True)
    shape = torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    one = read_head(tmp_path / "full.safetensors").vertices(shape, torch.ones(1, 52))
    other = read_head(tmp_path / "half.safetensors").vertices(shape, torch.ones(1, 52))
    assert (one - other).norm(dim=-1).max() < 5e-5


def test_truncated_file_is_refused_with_a_sentence(tmp_path):
    whole = (ASSETS / "open_head.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HeadFileError, match="cut.safetensors cannot be read"):
        load_head(tmp_path / "cut.safetensors")


def test_other_safetensors_are_refused(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "unet.safetensors")
    with pytest.raises(HeadFileError, match="holds no head model"):
        load_head(tmp_path / "unet.safetensors")


def test_newer_format_asks_for_an_update(tmp_path):
    save_file(
        {"template": torch.zeros(1, 3)},
        tmp_path / "new.safetensors",
        metadata={"magicportrait_head": '{"version": 2}'},
    )
    with pytest.raises(HeadFileError, match="version 2, this pack reads 1"):
        load_head(tmp_path / "new.safetensors")


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(HeadFileError, match="no head file at"):
        load_head(tmp_path / "nothing.pkl")
    (tmp_path / "BFM_model_front.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(HeadFileError, match="BFM_model_front.mat is not a head file"):
        load_head(tmp_path / "BFM_model_front.mat")


def test_device_move_carries_every_tensor(head):
    moved = head.to("meta")
    tensors = [getattr(moved, f.name) for f in fields(moved)] + [moved.landmarks.triangles]
    assert all(t.device.type == "meta" for t in tensors if isinstance(t, torch.Tensor))
