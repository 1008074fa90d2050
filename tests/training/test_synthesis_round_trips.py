"""Round trips: the truth is the photo itself, and the way back comes near to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")

from magicportrait_core.head.assets import load_head
from magicportrait_core.tracking.landmarker import load_landmarker
from training.clip_store import check_clip
from training.synthesis.clips import Recipe, Workshop, make_clip
from training.synthesis.portraits import portraits_of

SIZE = 64


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop.of(Recipe("round-trip", 1, SIZE, seed=2))


def test_the_way_back_is_nearer_to_the_photo(workshop):
    back, away = 0.0, 0.0
    for number in range(4):
        clip = make_clip(workshop, number)
        check_clip(clip)
        assert clip.notes["photo"].removesuffix("_mirrored") in ("astronaut", "grace_hopper")
        truth = clip.frames[0].float()
        back += float((clip.maps["warp"][0] - truth).abs().mean())
        away += float((clip.reference - truth).abs().mean())
    assert back < 0.6 * away


def test_both_people_and_their_mirror_images_are_there(workshop):
    names = {portrait.name for portrait in workshop.trips.portraits}
    assert names == {"astronaut", "grace_hopper", "astronaut_mirrored", "grace_hopper_mirrored"}
    noses = {p.name: float(p.track.landmarks[0, 4, 0]) for p in workshop.trips.portraits}
    width = workshop.trips.portraits[0].picture.shape[1]
    assert noses["astronaut"] + noses["astronaut_mirrored"] == pytest.approx(width, abs=0.03 * width)


def test_a_folder_without_a_face_is_refused(tmp_path, capsys):
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(tmp_path / "wall.png")
    with pytest.raises(ValueError, match="no picture with a face"):
        portraits_of(tmp_path, load_landmarker(), load_head("open_head"))
    assert "wall.png is left out" in capsys.readouterr().out


def test_clips_repeat(workshop):
    first, again = make_clip(workshop, 1), make_clip(workshop, 1)
    assert torch.equal(first.frames, again.frames) and torch.equal(first.reference, again.reference)
