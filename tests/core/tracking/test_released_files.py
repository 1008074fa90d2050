"""Licensed files: stand-ins with true names and shapes load, everything else is refused with a sentence."""

import os
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from magicportrait_core.head.assets import load_head, save_head
from magicportrait_core.head.files import HeadFileError
from magicportrait_core.head.flame_files import read_flame
from magicportrait_core.head.safe_pickle import read_pickle
from magicportrait_core.tracking.encoder_files import DECA, SMIRK, load_deca, load_smirk
from magicportrait_core.tracking.released_files import load_flame_2020
from magicportrait_core.tracking.released_tracker import ReleasedTracker


@pytest.fixture
def folder(released_folder):
    return released_folder


@pytest.fixture
def flame_table(golden):
    with (golden / "flame_synth.pkl").open("rb") as file:
        return read_pickle(file)


def test_stand_ins_load(folder):
    head = load_flame_2020(folder / "generic_model.pkl")
    assert (head.num_vertices, head.num_faces) == (5023, 9976)
    deca, smirk = load_deca(folder / "deca_model.tar"), load_smirk(folder / "SMIRK_em1.pt")
    grey = torch.full((1, 3, 224, 224), 0.5)
    assert deca(grey)[0, 206:209].tolist() == pytest.approx([8.0, 0.0, 0.02], abs=1e-3)
    assert smirk(grey).abs().max() < 1e-3
    assert not any(p.requires_grad for p in (*deca.parameters(), *smirk.parameters()))


def test_type_can_be_chosen(folder):
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 224, 224)
    full = load_smirk(folder / "SMIRK_em1.pt")
    half = load_smirk(folder / "SMIRK_em1.pt", dtype=torch.bfloat16)
    assert next(half.parameters()).dtype == torch.bfloat16
    torch.testing.assert_close(half(picture.bfloat16()).float(), full(picture), atol=0.05, rtol=0)


def test_files_of_older_torch_load(folder, tmp_path):
    weights = torch.load(folder / "SMIRK_em1.pt", weights_only=True)
    torch.save(weights, tmp_path / "SMIRK_em1.pt", _use_new_zipfile_serialization=False)
    old, new = load_smirk(tmp_path / "SMIRK_em1.pt"), load_smirk(folder / "SMIRK_em1.pt")
    picture = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert torch.equal(old(picture), new(picture))


def test_file_may_go_once_it_is_read(folder, tmp_path):
    path = shutil.copy(folder / "SMIRK_em1.pt", tmp_path / "SMIRK_em1.pt")
    encoder = load_smirk(path)
    with open(path, "r+b") as file:  # a mapped file would change under us
        file.write(bytes(os.path.getsize(path)))
    assert encoder(torch.full((1, 3, 224, 224), 0.5)).abs().max() < 1e-3


def test_unused_parts_are_named_and_others_told(folder, tmp_path, caplog):
    weights = torch.load(folder / "SMIRK_em1.pt", weights_only=True)
    torch.save(weights | {"surprise": torch.zeros(1)}, tmp_path / "SMIRK_em1.pt")
    with caplog.at_level("INFO", "magicportrait"):
        load_smirk(folder / "SMIRK_em1.pt")
        load_deca(folder / "deca_model.tar")
        assert not caplog.records
        load_smirk(tmp_path / "SMIRK_em1.pt")
    assert "also holds surprise, which is not used" in caplog.text


@pytest.mark.parametrize(("load", "name"), [(load_deca, "deca_model.tar"), (load_smirk, "SMIRK_em1.pt")])
def test_missing_cut_and_foreign_files(folder, tmp_path, load, name):
    with pytest.raises(FileNotFoundError, match=f"there is no file {name} for .*; expected {name} from"):
        load(tmp_path / name)
    data = (folder / name).read_bytes()
    for kept in (0, 100, len(data) // 2):
        (tmp_path / name).write_bytes(data[:kept])
        with pytest.raises(ValueError, match=f"{name} (cannot be read|is no file of weights)"):
            load(tmp_path / name)
    (tmp_path / name).write_text("<!DOCTYPE html><html>please log in</html>")
    with pytest.raises(ValueError, match=f"{name} is no file of weights; download {name} again from"):
        load(tmp_path / name)
    torch.save([torch.zeros(1)], tmp_path / name)
    with pytest.raises(ValueError, match="holds a list, not"):
        load(tmp_path / name)
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(ValueError, match=r"holds other weights \(conv.weight\), not .*; choose"):
        load(tmp_path / name)


def test_swapped_files_are_recognised(folder):
    with pytest.raises(
        ValueError, match="deca_model.tar is DECA's encoder, not SMIRK's encoder; choose SMIRK"
    ):
        load_smirk(folder / "deca_model.tar")
    with pytest.raises(ValueError, match="SMIRK_em1.pt is SMIRK's encoder, not DECA's encoder; choose deca"):
        load_deca(folder / "SMIRK_em1.pt")


class Malicious:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (os.system, (f"touch {self.marker}",))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    marker = tmp_path / "executed"
    torch.save({"E_flame": Malicious(marker)}, tmp_path / "deca_model.tar")
    with pytest.raises(ValueError, match=r"holds more than weights \(\S*system\).*could run code; download"):
        load_deca(tmp_path / "deca_model.tar")
    assert not marker.exists()


def test_checkpoints_are_read_strictly(folder, tmp_path):
    def refused(match, change):
        weights = torch.load(folder / "SMIRK_em1.pt", weights_only=True)
        change(weights)
        torch.save(weights, tmp_path / "SMIRK_em1.pt")
        with pytest.raises(ValueError, match=match):
            load_smirk(tmp_path / "SMIRK_em1.pt")

    last = "smirk_encoder.expression_encoder.expression_layers.0.weight"
    refused(f"lacks 1 of 278 weights of SMIRK's encoder, the first is {last}", lambda w: w.pop(last))
    refused(
        "has 1 weights that SMIRK's encoder does not know",
        lambda w: w.update({SMIRK.prefix + "extra": torch.zeros(1)}),
    )
    refused(
        r"is \(159, 960\), SMIRK's encoder has \(55, 960\)", lambda w: w.update({last: torch.zeros(159, 960)})
    )
    refused("values that are not numbers", lambda w: w.update({last: torch.full((55, 960), float("nan"))}))
    assert DECA.unused and all(SMIRK.unused.values())


@pytest.mark.parametrize(
    ("file", "match"),
    [
        ("flame2023.pkl", "FLAME 2023, whose coefficients are not those of 2020; .*generic_model.pkl"),
        ("flame2023_Open.pkl", "FLAME 2023, whose coefficients"),
        ("flame2023_no_jaw.pkl", "is a FLAME without jaw"),
        ("female_model.pkl", "for one gender, with a shape space of its own"),
        ("my_flame.pkl", "does not carry a published name.*name it generic_model.pkl"),
    ],
)
def test_other_flames_are_refused(golden, tmp_path, file, match):
    shutil.copy(golden / "flame_synth.pkl", tmp_path / file)
    shutil.copy(golden / "head_template_synth.obj", tmp_path / "head_template.obj")
    with pytest.raises(HeadFileError, match=match):
        load_flame_2020(tmp_path / file)


def test_flame_without_jaw_under_a_false_name_is_refused(flame_table, tmp_path):
    weights = np.array(flame_table["weights"])
    weights[:, 1] += weights[:, 2]
    weights[:, 2] = 0
    (tmp_path / "generic_model.pkl").write_bytes(pickle.dumps(flame_table | {"weights": weights}, 2))
    with pytest.raises(HeadFileError, match="generic_model.pkl is a FLAME without jaw"):
        load_flame_2020(tmp_path / "generic_model.pkl", needs_uvs=False)


def test_other_heads_make_no_released_tracker():
    with pytest.raises(HeadFileError, match="head 'open_head' is not FLAME; DECA and SMIRK speak"):
        ReleasedTracker(load_head(), deca=None, smirk=None, landmarker=None)


def test_basel_model_is_refused(tmp_path):
    (tmp_path / "generic_model.pkl").write_bytes(pickle.dumps({"shapePC": np.zeros(3)}, 2))
    with pytest.raises(HeadFileError, match="is a Basel face model"):
        load_flame_2020(tmp_path / "generic_model.pkl")


def test_texture_coordinates_are_asked_for(golden, tmp_path):
    shutil.copy(golden / "flame_synth.pkl", tmp_path / "generic_model.pkl")
    with pytest.raises(HeadFileError, match="needs head_template.obj .* not at"):
        load_flame_2020(tmp_path / "generic_model.pkl")
    assert load_flame_2020(tmp_path / "generic_model.pkl", needs_uvs=False).name == "flame2020"
    with pytest.raises(HeadFileError, match="not at .*elsewhere.obj"):
        load_flame_2020(tmp_path / "generic_model.pkl", tmp_path / "elsewhere.obj", needs_uvs=False)


def test_eyelids_are_read_only_when_asked_for(folder, tmp_path):
    flame = folder / "generic_model.pkl"
    assert read_flame(flame).eyelid_basis is None
    head = read_flame(flame, eyelids=True)
    assert head.eyelid_basis.shape == (2, 5023, 3)
    rest = torch.zeros(1, 1)
    closed = head.vertices(rest, rest, eyelids=torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(closed[0], head.template + head.eyelid_basis[0])
    without = replace(head, eyelid_basis=None)
    assert torch.equal(without.vertices(rest, rest, eyelids=torch.ones(1, 2)), head.vertices(rest, rest))

    shutil.copy(flame, tmp_path / "generic_model.pkl")
    with pytest.raises(
        HeadFileError, match="eyelids need l_eyelid.npy and r_eyelid.npy .* l_eyelid.npy is not"
    ):
        read_flame(tmp_path / "generic_model.pkl", eyelids=True)
    np.save(tmp_path / "l_eyelid.npy", np.zeros((98, 3)))
    np.save(tmp_path / "r_eyelid.npy", np.zeros((98, 3)))
    with pytest.raises(HeadFileError, match=r"l_eyelid has shape \(98, 3\), FLAME's is 5023 x 3"):
        read_flame(tmp_path / "generic_model.pkl", eyelids=True)
    (tmp_path / "l_eyelid.npy").write_bytes(b"nothing")
    with pytest.raises(HeadFileError, match="l_eyelid.npy cannot be read as an array"):
        read_flame(tmp_path / "generic_model.pkl", eyelids=True)


def test_eyelids_survive_conversion(folder, tmp_path):
    head = read_flame(folder / "generic_model.pkl", eyelids=True)
    save_head(head, tmp_path / "flame.safetensors")
    assert torch.equal(load_head(tmp_path / "flame.safetensors").eyelid_basis, head.eyelid_basis)
