"""Measures with others' networks: what is missing is said, nothing is downloaded, and the rest adds up."""

from __future__ import annotations

import math
import sys
import types

import numpy as np
import pytest
import torch

from training.evaluation.learned import LEARNED, LearnedMetrics, frechet_distance

FRAMES = torch.randint(0, 256, (34, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture
def nothing_installed(monkeypatch):
    for name in ("lpips", "face_recognition", "torch_fidelity"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it raises ImportError


def test_what_is_missing_is_named_once_each_and_the_rest_goes_on(nothing_installed):
    metrics = LearnedMetrics.load(LEARNED)
    assert [note.split(" not computed: needs ")[0] for note in metrics.notes] == [
        "LPIPS",
        "CSIM",
        "FID",
        "FVD",
    ]
    assert "pip install lpips" in metrics.notes[0] and "dlib" in metrics.notes[1]
    assert metrics.of_output(FRAMES, FRAMES, FRAMES[0]) == {} and metrics.features == {}
    assert LearnedMetrics.load(()) == LearnedMetrics()


def test_libraries_without_weights_are_not_asked_to_download_them(monkeypatch, tmp_path):
    class Downloads(Exception):
        pass

    def download(*_, **__):
        raise Downloads

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=download))
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    notes = LearnedMetrics.load(("lpips", "fid", "fvd"), fvd_weights=tmp_path / "i3d.pt").notes
    assert str(tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth") in notes[0]
    assert "weights-inception-2015-12-05-6726825d.pth" in notes[1]
    assert str(tmp_path / "i3d.pt") in notes[2]
    assert "--fvd-weights" in LearnedMetrics.load(("fvd",)).notes[0]


def test_csim_is_the_mean_cosine_between_the_portrait_and_the_frames_that_show_a_face(monkeypatch):
    """Codes by the brightness of a frame: two directions 60 degrees apart, and no face."""
    codes = {0: [np.array([1.0, 0.0])], 100: [np.array([0.5, math.sqrt(0.75)])], 200: []}
    library = types.SimpleNamespace(face_encodings=lambda picture: codes[int(picture[0, 0, 0])])
    monkeypatch.setitem(sys.modules, "face_recognition", library)
    metrics = LearnedMetrics.load(("csim",))
    output = torch.tensor([0, 100, 200], dtype=torch.uint8)[:, None, None, None].expand(3, 3, 4, 4)
    assert metrics.of_output(output, None, output[0]) == {"csim": pytest.approx(0.75)}  # of 1 and 0.5
    assert math.isnan(metrics.of_output(output, None, output[2])["csim"])  # no face in the portrait


def test_lpips_is_the_librarys_mean_over_the_frames(monkeypatch, tmp_path):
    class Network(torch.nn.Module):
        def forward(self, first, second):  # half the mean square, of values in [-1, 1]
            return ((first - second) ** 2).mean((1, 2, 3), keepdim=True) / 2

    weights = tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    weights.parent.mkdir(parents=True)
    weights.touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=lambda **_: Network()))
    metrics = LearnedMetrics.load(("lpips",))
    black, white = torch.zeros_like(FRAMES), torch.full_like(FRAMES, 255)
    assert metrics.of_output(black, white, black[0]) == {"lpips": pytest.approx(2)}
    assert metrics.of_output(black, None, black[0]) == {}  # there is no truth


def test_the_frechet_distance_of_shifted_features_is_the_squared_shift():
    pytest.importorskip("torch_fidelity")
    features = torch.randn(500, 3, generator=torch.Generator().manual_seed(1))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(features, features + 2) == pytest.approx(3 * 2**2, rel=1e-6)
    assert math.isnan(frechet_distance(features[:1], features))


def test_fvd_looks_at_pieces_of_sixteen_frames(monkeypatch, tmp_path):
    class Colours(torch.nn.Module):
        """As the usual I3D file: (N, 3, F, 224, 224) in [-1, 1] -> (N, D)."""

        def forward(self, video: torch.Tensor, rescale: bool, resize: bool, return_features: bool):
            assert video.shape[2] == 16 and video.shape[3] == 224
            return video.mean((2, 3, 4))

    torch.jit.script(Colours()).save(str(tmp_path / "i3d.pt"))
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    features = LearnedMetrics.load(("fvd",), fvd_weights=tmp_path / "i3d.pt").features["fvd"]
    grey = torch.full((34, 3, 8, 8), 255, dtype=torch.uint8)
    torch.testing.assert_close(features(grey), torch.ones(2, 3))  # two pieces, two frames are left over
    assert len(features(grey[:10])) == 0
    (tmp_path / "other.pt").write_bytes(b"no network")
    assert "is none" in LearnedMetrics.load(("fvd",), fvd_weights=tmp_path / "other.pt").notes[0]
