"""The command on real faces: what it writes, what it keeps, and what does not stop it."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from toy_model import write_small_model

from magicportrait_core.media.image import save_image
from magicportrait_core.media.video import open_video
from magicportrait_core.media.video_writing import write_video
from training import evaluate
from training.evaluation import run as runs
from training.evaluation.results import PairResults

FRAMES = 9


@pytest.fixture(scope="module")
def astronaut() -> torch.Tensor:
    data = pytest.importorskip("skimage.data")
    return torch.from_numpy(np.asarray(data.astronaut())).permute(2, 0, 1).float() / 127.5 - 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory, astronaut):
    """A face that moves through the picture, a clip without one, a portrait, and a model before training."""
    folder = tmp_path_factory.mktemp("evaluation")
    for name in ("videos", "portraits", "faceless"):
        (folder / name).mkdir()
    moving = [astronaut[:, 2 * i : 180 + 2 * i, 130 + 3 * i : 310 + 3 * i] for i in range(FRAMES)]
    write_video(folder / "videos" / "moves.mp4", moving, 12.5)
    write_video(folder / "faceless" / "wall.mp4", [torch.zeros(3, 96, 96)] * 10, 12.5)
    save_image(astronaut[:, :200, 120:320], folder / "portraits" / "astronaut.png")
    write_small_model(folder / "model", untrained=True)
    return folder


@pytest.fixture(scope="module")
def measured(folder):
    """The output of one run over all pairs, and its exit code."""
    return folder / "out", run(folder, "--portraits", str(folder / "portraits"))


def run(folder, *more: str, output: str = "out", videos: str = "videos") -> int:
    given = ["--videos", str(folder / videos), "--output", str(folder / output), "--device", "cpu"]
    return evaluate.main([*given, "--model", str(folder / "model"), "--steps", "1", "--metrics", "", *more])


def test_a_table_a_video_and_a_result_are_written_for_every_pair(folder, measured):
    output, code = measured
    assert code == 0
    rows = list(csv.DictReader((output / "table.csv").open(encoding="utf-8")))
    methods = ["still", "warp", "network, 1 step"]
    assert [(row["pair"], row["method"]) for row in rows] == [
        *(("self moves", name) for name in ("truth", *methods)),
        *(("astronaut by moves", name) for name in methods),
    ]
    text = (output / "table.md").read_text(encoding="utf-8")
    assert "| mean of all | head PSNR, dB |" in text and "| self moves | warp |" in text
    video = open_video(output / "pairs" / "self_moves" / "side_by_side.mp4")
    assert video.size[1] == 5 * 288 and len(list(video)) == FRAMES  # portrait, truth and the three methods
    assert (output / "pairs" / "astronaut_by_moves" / "result.json").is_file()


def test_an_untrained_network_measures_as_the_warp_to_the_last_digit(measured):
    rows = list(csv.DictReader((measured[0] / "table.csv").open(encoding="utf-8")))
    for pair in ("self moves", "astronaut by moves"):
        warp, network = (
            {k: v for k, v in row.items() if k != "method"}
            for row in rows
            if row["pair"] == pair and row["method"] in ("warp", "network, 1 step")
        )
        assert warp == network


def test_a_clip_drives_itself_to_where_it_is(measured):
    """The photo only shifts, so its warp follows to a fraction of a level's worth of landmarks."""
    rows = {
        row["method"]: {k: float(v) for k, v in row.items() if v and k not in ("pair", "method")}
        for row in csv.DictReader((measured[0] / "table.csv").open(encoding="utf-8"))
        if row["pair"] == "self moves"
    }
    assert rows["warp"]["landmarks"] < 3 < rows["still"]["landmarks"]
    assert rows["warp"]["psnr_head"] > rows["still"]["psnr_head"] + 3
    assert rows["warp"]["flow_error"] < rows["still"]["flow_error"]
    assert rows["warp"]["lost"] == 0 and rows["warp"]["apd"] < 3


def test_what_was_measured_is_kept_until_settings_change(folder, measured, monkeypatch, capsys):
    def measure(scene, *_):
        raise ValueError("measured again")

    monkeypatch.setattr(runs, "measure", measure)
    before = (measured[0] / "table.csv").read_text(encoding="utf-8")
    assert run(folder, "--portraits", str(folder / "portraits")) == 0
    assert (measured[0] / "table.csv").read_text(encoding="utf-8") == before
    assert "(kept)" in capsys.readouterr().err
    assert run(folder, "--portraits", str(folder / "portraits"), "--frames", "8") == 1
    assert (
        "error: no pair could be measured; the first: self moves: measured again" in capsys.readouterr().err
    )


def test_of_another_model_only_the_model_is_measured(folder, measured, monkeypatch, tmp_path):
    shutil.copytree(measured[0], tmp_path / "out")
    write_small_model(tmp_path / "other", untrained=True, seed=5)
    asked = []
    monkeypatch.setattr(runs, "measure", lambda scene, *_: asked.append(scene.name) or {"psnr_head": 1.0})
    given = ["--videos", str(folder / "videos"), "--output", str(tmp_path / "out"), "--metrics", ""]
    assert evaluate.main([*given, "--model", str(tmp_path / "other"), "--steps", "1", "--device", "cpu"]) == 0
    assert asked == ["self moves"]
    old, new = (
        {
            row["method"]: row["psnr_head"]
            for row in csv.DictReader((path / "table.csv").open(encoding="utf-8"))
            if row["pair"] == "self moves"
        }
        for path in (measured[0], tmp_path / "out")
    )
    assert list(new) == ["truth", "still", "warp", "network, 1 step"]
    assert new == old | {"network, 1 step": "1"}


def test_a_damaged_result_is_made_again(folder, measured):
    path = measured[0] / "pairs" / "self_moves" / "result.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    settings = {name: kept["settings"] for name, kept in whole["methods"].items()}
    results = PairResults(path.parent, whole["scene"])
    assert list(results.read(settings)) == ["truth", "still", "warp", "network, 1 step"]
    assert list(results.read(settings | {"warp": "another"})) == ["truth", "still", "network, 1 step"]
    assert PairResults(path.parent, "another").read(settings) == {}
    text = path.read_text(encoding="utf-8")
    try:
        for broken in ("", "[]", "{}", json.dumps(whole | {"methods": None}), text[: len(text) // 2]):
            path.write_text(broken, encoding="utf-8")
            assert results.read(settings) == {}
    finally:
        path.write_text(text, encoding="utf-8")


def test_one_bad_clip_does_not_stop_the_rest(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs.Evaluation, "measure", _measure_or_fail(runs.Evaluation.measure))
    videos = folder / "mixed"
    videos.mkdir()
    (videos / "broken.mp4").write_bytes(b"no video")
    (videos / "moves.mp4").write_bytes((folder / "videos" / "moves.mp4").read_bytes())
    (videos / "wall.mp4").write_bytes((folder / "faceless" / "wall.mp4").read_bytes())
    assert run(folder, output="mixed_out", videos="mixed") == 1
    said = capsys.readouterr()
    assert "self broken: failed: 'broken.mp4' cannot be read as a video" in said.err
    assert "self wall: failed: no face was found" in said.err and "Traceback" not in said.err
    assert "1 of 3 pairs" in said.err
    table = (folder / "mixed_out" / "table.md").read_text(encoding="utf-8")
    assert "| self moves | warp | 20.00 |" in table and "- self broken: " in table


def _measure_or_fail(measure):
    """Videos are read in earnest; what is measured of the good one does not matter here."""

    def quick(self, pair, kept, reader, on_stage):
        if pair.driver.name == "moves.mp4":
            return {name: {"psnr_head": 20.0} for name in ("still", "warp", "network, 1 step")}
        return measure(self, pair, kept, reader, on_stage)

    return quick


def test_mistakes_are_said_in_a_sentence(folder, tmp_path, capsys):
    def error_of(*given: str) -> str:
        assert evaluate.main([*given, "--output", str(tmp_path), "--device", "cpu"]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and "Traceback" not in said
        return said

    assert "there is no folder" in error_of("--videos", str(tmp_path / "nowhere"))
    assert "--portraits" in error_of("--videos", str(folder / "videos"), "--mode", "cross")
    assert "holds no pictures" in error_of(
        "--videos", str(folder / "videos"), "--portraits", str(folder / "videos")
    )
    assert "none does not exist" in error_of(
        "--videos", str(folder / "videos"), "--model", str(tmp_path / "none")
    )
    assert "index.json" in error_of("--store", str(tmp_path))
    for wrong in (["--steps", "0"], ["--mode", "both"], ["--metrics", "psnr"], ["--frames", "x"]):
        with pytest.raises(SystemExit) as stopped:
            evaluate.main(["--videos", str(folder / "videos"), "--output", str(tmp_path), *wrong])
        assert stopped.value.code == 2
    with pytest.raises(SystemExit):
        evaluate.main(["--videos", str(folder / "videos")])


def test_ctrl_c_ends_with_130(folder, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.Evaluation, "measure", stop)
    assert run(folder, output="stopped") == 130
    assert "run the same command again" in capsys.readouterr().err


def test_a_store_is_measured_by_the_same_command(drawn_store, tmp_path, capsys):
    output = tmp_path / "out"
    given = ["--store", str(drawn_store), "--output", str(output), "--limit", "2", "--device", "cpu"]
    assert evaluate.main(given) == 0
    rows = list(csv.DictReader((output / "table.csv").open(encoding="utf-8")))
    assert [(row["pair"], row["method"]) for row in rows] == [
        (pair, name) for pair in ("drawn0", "drawn1") for name in ("still", "warp")
    ]
    assert "| warp |" in capsys.readouterr().out


def test_side_by_side_has_every_panel_at_its_place():
    from training.evaluation.side_by_side import LABEL_HEIGHT, panels

    red, blue = torch.zeros(2, 3, 20, 10, dtype=torch.uint8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    red[:, 0], blue[:, 2] = 255, 255
    first, second = panels({"red": red, "blue": blue}, side=40)
    assert first.shape == (40 + LABEL_HEIGHT, 80, 3)
    assert first[LABEL_HEIGHT + 20, 20].tolist() == [255, 0, 0]
    assert second[LABEL_HEIGHT + 20, 60].tolist() == [0, 0, 255]  # a single frame stays
    assert first[LABEL_HEIGHT + 20, 5].tolist() == [24, 26, 30]  # beside the upright picture
    Image.fromarray(first.numpy())
