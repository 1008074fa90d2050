"""Segments on disk."""

import json

import pytest
import torch
from safetensors.torch import save_file

from magicportrait_core.diffusion.segment_files import load_segments, save_segments
from magicportrait_core.diffusion.segments import PortraitSegments
from magicportrait_core.diffusion.state import RenderState, StateFile


@pytest.fixture
def segments():
    torch.manual_seed(0)
    windows = ((0, 1, 2), (2, 3, 4, 0))
    clip = torch.randn(4, 5, 3, 2)
    return PortraitSegments(tuple(clip[:, list(w)] for w in windows), windows, 5, 0.18215, "abc")


def test_segments_come_back_exactly(tmp_path, segments):
    path = save_segments(segments, tmp_path / "folder" / "part")
    assert path == tmp_path / "folder" / "part.safetensors"
    loaded = load_segments(path)
    assert all(torch.equal(a, b) for a, b in zip(loaded.latents, segments.latents, strict=True))
    assert (loaded.frames, loaded.num_frames) == (segments.frames, 5)
    assert (loaded.latent_scale, loaded.render) == (0.18215, "abc")


def test_views_of_one_tensor_can_be_saved(tmp_path):
    clip = torch.arange(8.0).reshape(1, 8, 1, 1)
    windows = (tuple(range(5)), tuple(range(3, 8)))
    views = PortraitSegments((clip[:, :5], clip[:, 3:]), windows, 8, 1.0)
    loaded = load_segments(save_segments(views, tmp_path / "part.safetensors"))
    assert loaded.latents[1].flatten().tolist() == [3, 4, 5, 6, 7]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file of portrait segments .*part.safetensors"):
        load_segments(tmp_path / "part.safetensors")


def test_broken_files_are_refused(tmp_path, segments):
    path = save_segments(segments, tmp_path / "part.safetensors")
    whole = path.read_bytes()
    for content in (whole[:-20], b"", b"PK\x03\x04" + whole):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="part.safetensors is not a readable file of portrait segments"):
            load_segments(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "part.safetensors"
    StateFile(path).save(RenderState(torch.zeros(4, 1, 2, 2)), "key")
    with pytest.raises(ValueError, match="its format is 'magicportrait_render_state', expected"):
        load_segments(path)
    save_file({"x": torch.zeros(1)}, path, {"format": "magicportrait_segments", "version": "9"})
    with pytest.raises(ValueError, match="of version 9, this pack reads version 1; update the pack"):
        load_segments(path)


@pytest.mark.parametrize(
    "change",
    [
        {"frames": [[0, 1]]},
        {"frames": [[0, 1, 7]]},
        {"frames": [[0, 1, 2], [3]]},
        {"frames": [[]]},
        {"frames": []},
        {"frames": 3},
        {"num_frames": "many"},
        {"latent_scale": None},
    ],
)
def test_headers_that_cannot_be_are_refused(tmp_path, change):
    header = {"frames": [[0, 1, 2]], "num_frames": 3, "latent_scale": 0.2, "render": ""} | change
    metadata = {"format": "magicportrait_segments", "version": "1", "header": json.dumps(header)}
    path = tmp_path / "part.safetensors"
    save_file({"0": torch.zeros(4, 3, 2, 2)}, path, metadata)
    with pytest.raises(ValueError, match="part.safetensors is damaged .* save the segments again"):
        load_segments(path)


def test_values_that_are_not_finite_are_refused(tmp_path, segments):
    segments.latents[0][0, 0, 0, 0] = float("nan")
    path = save_segments(segments, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match="part.safetensors holds values that are not finite"):
        load_segments(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path, segments):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="part.safetensors cannot be written .* choose another folder"):
        save_segments(segments, tmp_path / "file" / "part.safetensors")
