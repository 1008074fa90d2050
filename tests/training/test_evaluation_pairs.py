"""Which portrait is driven by which clip, and what a clip is cut to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from magicportrait_core.tracking.observation import FaceObservations
from training.evaluation.footage import cut_square, face_square, shots
from training.evaluation.pairs import find_pairs


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Names are all that counts here."""
    for name in ("v/a.mp4", "v/b.MOV", "v/notes.txt", "p/x.png", "p/y.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path / "v", tmp_path / "p"


def names(pairs) -> list[str]:
    return [pair.name for pair in pairs]


def test_every_clip_drives_itself_and_every_portrait(folders):
    pairs = find_pairs(*folders, ("self", "cross"))
    assert names(pairs) == ["self a", "self b", "x by a", "x by b", "y by a", "y by b"]
    assert [pair.mode for pair in pairs] == ["self"] * 2 + ["cross"] * 4
    assert names(find_pairs(folders[0], None, ("self",))) == ["self a", "self b"]


def test_a_file_can_say_which_pairs(folders, tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("x.png, b.MOV\n\ny.jpg,a.mp4\n")
    assert names(find_pairs(*folders, ("cross",), file)) == ["x by b", "y by a"]
    file.write_text("x.png\n")
    with pytest.raises(ValueError, match="line 1 of .*pairs.csv has 1 entries; expected portrait,driver"):
        find_pairs(*folders, ("cross",), file)
    file.write_text("x.png,c.mp4\n")
    with pytest.raises(FileNotFoundError, match="line 1 of .*there is no file .*c.mp4"):
        find_pairs(*folders, ("cross",), file)
    file.write_bytes(b"\xff\xfe\x00x")
    with pytest.raises(ValueError, match="not a text file"):
        find_pairs(*folders, ("cross",), file)


def test_folders_without_anything_to_measure_are_refused(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere; give one with videos"):
        find_pairs(tmp_path / "nowhere", None, ("self",))
    with pytest.raises(ValueError, match="holds no videos"):
        find_pairs(folders[1], None, ("self",))
    with pytest.raises(ValueError, match="--portraits"):
        find_pairs(folders[0], None, ("cross",))
    (folders[1] / "x.jpeg").touch()
    with pytest.raises(ValueError, match="several files make the pair 'x_by_a'"):
        find_pairs(*folders, ("cross",))


def test_a_shot_ends_where_the_face_is_lost_and_before_a_cut():
    found = [True] * 3 + [False] + [True] * 20
    assert shots(found, cuts=[12]) == [slice(4, 12), slice(12, 24), slice(0, 3)]  # short ones last
    assert shots([False] * 5, []) == []


def seen(points: torch.Tensor) -> FaceObservations:
    frames = len(points)
    flags = torch.ones(frames, dtype=torch.bool)
    return FaceObservations(
        points, torch.zeros(frames, 52), torch.ones(frames), flags, (400, 600), 25.0, flags.long()
    )


def box(left: float, top: float, right: float, bottom: float) -> torch.Tensor:  # (478, 3)
    return torch.tensor([[left, top, 0.0], [right, bottom, 0.0]]).repeat(239, 1)


def test_the_square_is_218_hundredths_of_the_face_around_its_middle():
    face = box(250, 150, 350, 260)  # 100 wide, its middle at (300, 205)
    assert face_square(seen(face.expand(3, -1, -1))) == (191, 96, 218)


def test_the_square_holds_a_face_that_goes_far_and_stays_in_the_picture():
    left, top, side = face_square(seen(torch.stack((box(20, 100, 120, 210), box(260, 100, 360, 210)))))
    assert side == 400  # 1.25 x 340 is more than the picture is high
    assert left == 0 and top == 0  # 190 - 200 would lie outside


def test_cutting_keeps_pixels_unless_they_are_too_many():
    frames = torch.arange(3 * 400 * 600).reshape(1, 3, 400, 600).remainder(256).to(torch.uint8)
    assert torch.equal(cut_square(frames, (191, 96, 218)), frames[..., 96:314, 191:409])
    large = frames.repeat(1, 1, 2, 2)
    assert cut_square(large, (0, 0, 800)).shape == (1, 3, 512, 512)
