"""Licensed files that are missing, damaged, of another kind or dangerous: one sentence each, from the server.

Nothing in a pickle runs.
"""

import os
import pickle
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from released_graphs import Graph, one_sentence

from magicportrait_core.head.safe_pickle import read_pickle


@pytest.fixture(scope="module")
def models(server, released_models):
    return server.base / "models" / "magicportrait"


@pytest.fixture(scope="module")
def load(client, object_info, models):
    """Runs Load FLAME Tracker with DECA + SMIRK and the given choices."""
    graph = Graph(object_info)

    def run(**choices):
        see = {"class_type": "PreviewAny", "inputs": {"source": ["head", 1]}}
        return client.run({"head": graph.loader(**choices), "see": see})

    return run


@contextmanager
def replaced(path, content=None):
    """Another file in the place of a good one, for a while; None: no file."""
    kept = path.with_name(path.name + ".kept")
    path.rename(kept)
    try:
        if callable(content):
            content(path)
        elif content is not None:
            path.write_bytes(content)
        yield
    finally:
        path.unlink(missing_ok=True)
        kept.rename(path)


class Malicious:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (os.system, (f"touch {self.marker}",))


def flame(models, **changes) -> bytes:
    with (models / "heads" / "generic_model.pkl").open("rb") as file:
        table = read_pickle(file)
    return pickle.dumps({name: np.asarray(v) for name, v in table.items()} | changes, protocol=2)


def test_good_files_load(load):
    run = load()
    assert run.status == "success", run.error
    text = run.outputs["see"]["text"][0]
    assert text.startswith("DECA + SMIRK (licensed files), head heads/generic_model.pkl; 5 of 5 files")
    assert len(text.splitlines()) == 9 and text.count(": there, ") == 7
    for words in (
        "generic_model.pkl",
        "deca_model.tar",
        "SMIRK_em1.pt",
        "licence",
        "flame.is.tue.mpg.de",
        " MB",
    ):
        assert words in text


def test_all_missing_files_are_named_at_once(load, models):
    places = ("heads/FLAME_texture.npz", "heads/head_template.obj", "trackers/SMIRK_em1.pt")
    with replaced(models / places[0]), replaced(models / places[1]), replaced(models / places[2]):
        error = one_sentence(load(), "head")
        assert error.startswith(f"DECA + SMIRK lack 3 files in {models}: ")
        for words in (
            *places,
            "licence: ",
            "github.com/georgeretsi/smirk",
            "MB",
            "press R",
            "landmarks (built in)",
        ):
            assert words in error
        assert "deca_model.tar" not in error
        assert "lack 1 file in" in one_sentence(load(texture="none"), "head")
        listed = load(tracker="landmarks (built in)", head="open_head (built in)")
        text = listed.outputs["see"]["text"][0]
        assert text.count(": missing (") == 3 and "2 of 5 files of DECA + SMIRK are there" in text


def test_built_in_head_is_not_flame(load):
    error = one_sentence(load(head="open_head (built in)"), "head")
    assert "choose heads/generic_model.pkl as head, or 'landmarks (built in)' as tracker" in error


@pytest.mark.parametrize(
    ("choice", "value"),
    [
        ("tracker", "EMOCA"),
        ("deca", "trackers/mine.tar"),
        ("deca", "../../../etc/passwd"),
        ("texture", "/etc/passwd"),
        ("head", "../../../etc/passwd"),
    ],
)
def test_choices_that_are_not_in_the_lists(choice, value, load):
    run = load(**{choice: value})
    assert run.status == "rejected" and value in run.error


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("flame2023.pkl", "is FLAME 2023, whose coefficients are not those of 2020"),
        ("flame2023_Open.pkl", "is FLAME 2023, whose coefficients are not those of 2020"),
        ("flame2023_no_jaw.pkl", "is a FLAME without jaw"),
        ("female_model.pkl", "is FLAME 2020 for one gender"),
        ("mine.pkl", "does not carry a published name"),
    ],
)
def test_other_flames(name, words, load, models):
    path = models / "heads" / name
    shutil.copy(models / "heads" / "generic_model.pkl", path)
    try:
        error = one_sentence(load(head=f"heads/{name}"), "head")
    finally:
        path.unlink()
    assert error.startswith(name) and words in error and "generic_model.pkl" in error


def test_flame_files_of_another_kind(load, models):
    path = models / "heads" / "generic_model.pkl"
    weights = np.zeros((5023, 5))
    weights[:, 1] = 1
    cases = {
        "generic_model.pkl is a FLAME without jaw": flame(models, weights=weights),
        "generic_model.pkl is a Basel face model": pickle.dumps({"shapePC": np.zeros(3)}, 2),
        "cannot be read as a FLAME pickle": path.read_bytes()[:100_000],
        "generic_model.pkl: v_template has shape (5022, 3)": None,
    }
    cases["generic_model.pkl: shapedirs has shape (5023, 3, 300)"] = flame(
        models, shapedirs=np.zeros((5023, 3, 300), np.float32)
    )
    del cases["generic_model.pkl: v_template has shape (5022, 3)"]
    for words, content in cases.items():
        with replaced(path, content):
            assert words in one_sentence(load(), "head")


def test_code_in_files_never_runs(load, models, tmp_path):
    marker = tmp_path / "executed"
    with replaced(models / "heads" / "generic_model.pkl", pickle.dumps({"f": Malicious(marker)}, 2)):
        assert "which no FLAME file contains; nothing in it ran" in one_sentence(load(), "head")
    for name in ("deca_model.tar", "SMIRK_em1.pt"):
        with replaced(
            models / "trackers" / name, lambda path: torch.save({"E_flame": Malicious(marker)}, path)
        ):
            error = one_sentence(load(), "head")
            assert f"{name} holds more than weights" in error and "was not opened" in error
    for name in ("FLAME_texture.npz", "l_eyelid.npy"):
        harmful = np.array([Malicious(marker)], object)
        save = (
            np.save if name.endswith("npy") else lambda file, array: np.savez(file, mean=array, tex_dir=array)
        )

        def write(path, save=save, harmful=harmful):
            with path.open("wb") as file:
                save(file, harmful)

        with replaced(models / "heads" / name, write):
            assert f"{name} cannot be read as" in one_sentence(load(eyelids=True), "head")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["deca_model.tar", "SMIRK_em1.pt"])
def test_encoders_that_are_cut_or_something_else(name, load, models):
    path = models / "trackers" / name
    whole = path.read_bytes()
    with replaced(path, whole[: len(whole) // 2]):
        assert one_sentence(load(), "head").startswith(f"{name} cannot be read")
    with replaced(path, b"<!DOCTYPE html><html>please log in</html>"):
        assert f"{name} is no file of weights; download {name} again" in one_sentence(load(), "head")
    with replaced(path, lambda p: torch.save({"conv.weight": torch.zeros(1)}, p)):
        assert f"{name} holds other weights (conv.weight)" in one_sentence(load(), "head")


def test_files_under_other_names_are_listed(load, client, models):
    """Of every kind, each in its own list; nothing shows up among heads and models."""
    places = {"deca": "trackers/deca_2.tar", "smirk": "trackers/smirk_2.pt", "texture": "heads/skin.npz"}
    originals = ("trackers/deca_model.tar", "trackers/SMIRK_em1.pt", "heads/FLAME_texture.npz")
    for place, original in zip(places.values(), originals, strict=True):
        shutil.copy(models / original, models / place)
    try:
        run = load(**places)
        assert run.status == "success", run.error
        inputs = {
            name: client.get_json(f"/object_info/{name}")[name]["input"]
            for name in ("MagicPortraitLoadTracker", "MagicPortraitLoadModel")
        }
        loader = inputs["MagicPortraitLoadTracker"]
        assert places["deca"] not in str(inputs["MagicPortraitLoadModel"]) + str(loader["required"]["head"])
        assert places["texture"] in str(loader["optional"]["texture"])
        assert places["texture"] not in str(loader["optional"]["deca"])
    finally:
        for place in places.values():
            (models / place).unlink()


def test_swapped_encoders(load):
    error = one_sentence(load(deca="trackers/SMIRK_em1.pt", smirk="trackers/deca_model.tar"), "head")
    assert error.startswith("SMIRK_em1.pt is SMIRK's encoder, not DECA's encoder; choose deca_model.tar")


def test_texture_of_another_size_or_kind(load, models):
    path = models / "heads" / "FLAME_texture.npz"

    def small(file):
        with file.open("wb") as out:
            np.savez(out, mean=np.zeros((256, 256, 3)), tex_dir=np.zeros((256, 256, 3, 50)))

    def basel(file):
        with file.open("wb") as out:
            np.savez(out, MU=np.zeros(3), PC=np.zeros(3))

    cases = {
        "FLAME_texture.npz: mean has shape (256, 256, 3), expected 512 x 512": small,
        "is DECA's albedo model made from the Basel face model": basel,
        "FLAME_texture.npz cannot be read as": path.read_bytes()[:1000],
    }
    for words, content in cases.items():
        with replaced(path, content):
            assert words in one_sentence(load(), "head")


def test_template_of_another_head(load, models):
    with replaced(
        models / "heads" / "head_template.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf 1/1 2/1 3/1\n"
    ):
        assert "head_template.obj" in one_sentence(load(), "head")
