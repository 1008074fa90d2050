"""The person matte against the original, and where it looks."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from magicportrait_core.matting.person_matte import (
    ASSET,
    crop_around,
    load_person_network,
    nearness_to_edges,
    person_probability,
)

PARITY = 0.01


def test_the_network_answers_as_the_original_does(golden, real_frame):
    with safe_open(golden / "person_matte_reference.safetensors", "pt") as file:
        note = json.loads(file.metadata()["reference"])
        recorded = file.get_tensor("mattes").float() / 255
    picture = real_frame(note["file"], 0, 1)
    network, every = load_person_network(), note["every"]
    for (left, top, right, bottom), expected in zip(note["crops"], recorded, strict=True):
        crop = (picture[None, :, top:bottom, left:right] + 1) / 2
        seen = network(crop)[0, 0, ::every, ::every]
        assert (seen - expected).abs().max() <= PARITY
        assert 0.1 < expected.mean() < 0.9  # neither of them is trivial


def test_the_asset_is_small():
    assert ASSET.stat().st_size <= 300_000


def test_foreign_and_missing_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="convert_matte"):
        load_person_network("cpu", tmp_path / "person_matte.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file(load_file(ASSET), foreign, metadata={"magicportrait": json.dumps({"name": "face_landmarker"})})
    with pytest.raises(ValueError, match="not a version 1 person matte"):
        load_person_network("cpu", foreign)
    foreign.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="cannot be read"):
        load_person_network("cpu", foreign)


def test_the_crop_is_a_multiple_of_the_face_and_ends_at_the_picture():
    crop = crop_around((500.5, 400.5), 100.0, (2000, 3000))
    assert (crop.left, crop.top, crop.right, crop.bottom) == (240, 180, 761, 701)
    cut = crop_around((50.0, 60.0), 100.0, (120, 130))
    assert (cut.left, cut.top, cut.right, cut.bottom) == (0, 0, 130, 120)


def test_the_edges_are_the_pictures_and_not_those_of_the_crop_nor_the_lower_one():
    near = nearness_to_edges(crop_around((500.5, 400.5), 100.0, (2000, 3000)), (2000, 3000), 100.0)
    assert near.shape == (521, 521) and near.max() == 0
    near = nearness_to_edges(crop_around((100.0, 100.0), 100.0, (300, 200)), (300, 200), 100.0)
    assert near[0, 100] == 1 and near[150, 0] == 1 and near[150, -1] == 1
    assert near[-1, 100] == 0


def test_a_head_at_the_edge_is_seen_whole_with_room_around_it(real_frame):
    """The astronaut's hair, cut in the middle of the forehead's top: without room the network loses it."""
    head = real_frame("skimage/data/astronaut.png", 0, 1)[:, 30:230, 120:320]
    edges = torch.zeros(200, 200)
    edges[:60] = 1
    alone = person_probability(load_person_network(), head)
    roomy = person_probability(load_person_network(), head, edges)
    assert (roomy >= alone).all() and torch.equal(roomy[:, 60:], alone[:, 60:])
    assert roomy[0, 0, 90:115].mean() > 0.9
