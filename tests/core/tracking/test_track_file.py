import json
from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from synthetic_head import synthetic_head, synthetic_track

from magicportrait_core.tracking.track_file import FORMAT, load_track, save_track


@pytest.fixture
def track():
    return synthetic_track(synthetic_head(), frames=4)


@pytest.fixture
def saved(track, tmp_path):
    return save_track(track, tmp_path / "clip")


def edit(path, tensors=None, drop=(), **metadata):
    """The file again with some tensors or header entries replaced."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        old = file.metadata()
    values = {k: v for k, v in (load_file(path) | (tensors or {})).items() if k not in drop}
    save_file(values, path, old | metadata)


def test_a_track_comes_back_bit_for_bit(track, saved):
    back = load_track(saved, synthetic_head())
    for field in fields(track):
        before, after = getattr(track, field.name), getattr(back, field.name)
        if isinstance(before, torch.Tensor):
            assert torch.equal(before, after) and before.dtype == after.dtype, field.name
        elif field.name != "camera":
            assert before == after, field.name
    assert torch.equal(back.camera.view, track.camera.view) and back.camera.size == track.camera.size
    assert torch.equal(back.camera.intrinsics, track.camera.intrinsics)
    assert back.camera.projection == track.camera.projection


def test_missing_frames_and_codes_survive(track, tmp_path):
    found = torch.tensor([True, False, True, True])
    track = replace(
        track,
        found=found,
        pose=track.pose.masked_fill(~found[:, None, None], torch.nan),
        landmarks=None,
        texture=torch.randn(1, 50),
        light=torch.randn(1, 9, 3),
    )
    back = load_track(save_track(track, tmp_path / "a.safetensors"))
    assert back.landmarks is None and torch.equal(back.texture, track.texture)
    assert torch.equal(back.light, track.light) and torch.equal(back.pose[found], track.pose[found])


def test_the_suffix_is_added_and_nothing_is_left_behind(saved):
    assert saved.name == "clip.safetensors"
    assert [p.name for p in saved.parent.iterdir()] == ["clip.safetensors"]


def test_the_header_is_readable_without_us(saved):
    length = int.from_bytes(saved.read_bytes()[:8], "little")
    metadata = json.loads(saved.read_bytes()[8 : 8 + length])["__metadata__"]
    header = json.loads(metadata["header"])
    assert metadata["format"] == FORMAT and metadata["version"] == "1"
    assert header["head"] == "synthetic" and header["fps"] == 25.0 and header["size"] == [500, 500]
    assert header["expression_names"][:2] == ["browDownLeft", "browDownRight"]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no track file .*nothing.safetensors"):
        load_track(tmp_path / "nothing.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no track file"):
        load_track(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 100, 2000, -1])
def test_a_file_that_was_cut_short(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(ValueError, match="clip.safetensors is not a readable safetensors file"):
        load_track(saved)


@pytest.mark.parametrize("content", [b"\x80\x04pickle", b"\xff" * 64, b"{}", b"P" * 5000])
def test_a_file_of_another_kind(saved, content):
    saved.write_bytes(content)
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_track(saved)


def test_a_pickle_is_never_opened(saved, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("boom").write_text, ("x",))

    torch.save(Bomb(), saved)
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_track(saved)
    assert not (tmp_path / "boom").exists()


def test_a_foreign_safetensors_file(saved):
    save_file({"weight": torch.zeros(2)}, saved)
    with pytest.raises(ValueError, match="is a safetensors file but not a face track"):
        load_track(saved)


def test_another_version(saved):
    edit(saved, version="2")
    with pytest.raises(
        ValueError, match="face track of version 2, this pack reads version 1; update the pack"
    ):
        load_track(saved)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "[]",
        "{}",
        '{"head": 3}',
        "[" * 5000,
        '{"head":"a","size":[0,5],"fps":1,"projection":"perspective","face_index":0,"expression_names":[]}',
        '{"head":"a","size":[5,5],"fps":NaN,"projection":"perspective","face_index":0,"expression_names":[]}',
    ],
)
def test_a_header_that_makes_no_sense(saved, header):
    edit(saved, header=header)
    with pytest.raises(ValueError, match="clip.safetensors is damaged: its header"):
        load_track(saved)


def test_tensors_that_do_not_fit(saved):
    edit(saved, drop=("pose", "view"))
    with pytest.raises(ValueError, match="is damaged: it lacks pose, view"):
        load_track(saved)


@pytest.mark.parametrize(
    "name, value",
    [
        ("pose", torch.zeros(3, 5, 3)),
        ("view", torch.zeros(4, 4, 4)),
        ("expression", torch.zeros(4)),
        ("expression", torch.full((4, 51), torch.nan)),
        ("expression", torch.zeros(4, 51, dtype=torch.int64)),
        ("shape", torch.zeros(6)),
        ("found", torch.ones(4)),
        ("found", torch.ones(4, 2, dtype=torch.bool)),
        ("landmarks", torch.zeros(4)),
        ("landmarks", torch.zeros(2, 478, 3)),
        ("intrinsics", torch.full((4, 3), torch.inf)),
        ("error", torch.zeros(())),
    ],
)
def test_values_that_do_not_fit(saved, name, value):
    edit(saved, {name: value})
    with pytest.raises(ValueError, match="clip.safetensors is damaged: "):
        load_track(saved)


def test_a_track_of_another_head(saved):
    with pytest.raises(
        ValueError, match="was tracked with head 'synthetic', but head 'synthetic_flame' is connected"
    ):
        load_track(saved, synthetic_head(arkit=False))
    with pytest.raises(
        ValueError, match="6 shape and 51 expression coefficients, but head 'synthetic' has 4 and 51"
    ):
        load_track(saved, synthetic_head(shapes=4))
    renamed = replace(synthetic_head(), expression_names=tuple(reversed(synthetic_head().expression_names)))
    with pytest.raises(ValueError, match="names its expressions otherwise"):
        load_track(saved, renamed)


def test_covers_come_back_and_files_without_them_are_read(track, tmp_path):
    covered = torch.tensor([[True, False, False], [False, True, False], [False] * 3, [False, False, True]])
    path = save_track(replace(track, covered=covered), tmp_path / "covered")
    assert torch.equal(load_track(path).covered, covered)
    edit(path, drop=("covered",))
    assert load_track(path).covered is None


def test_covers_that_are_no_flags_are_refused_in_a_sentence(track, tmp_path):
    path = save_track(track, tmp_path / "damaged")
    edit(path, {"covered": torch.ones(4, 3)})
    with pytest.raises(ValueError, match="damaged: 'covered' holds torch.float32, not flags"):
        load_track(path)
