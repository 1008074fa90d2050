"""Inputs, table, sheet and command of the ugliness suite."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from magicportrait_core.media.image import save_image
from training import check_pictures
from training.evaluation import ugliness, ugliness_media
from training.evaluation.pairs import Pair
from training.evaluation.table import Row
from training.evaluation.ugliness import Suite
from training.evaluation.ugliness_goals import GOALS, faults, summary, to_markdown, write_results
from training.evaluation.ugliness_media import folder_pairs, listed_pairs, template_file, widened
from training.evaluation.ugliness_sheet import face_square, telling_frames, write_sheet

GOOD = {"lips": 0.01, "lids": 0.03, "turn": 1.0, "gain": math.nan, "far": 0.0, "amplitude": 0.95, "shut": 0.0}


def test_only_what_is_beyond_a_goal_is_a_fault():
    assert faults(Row("a", "preview", GOOD)) == []
    assert faults(Row("a", "preview", GOOD | {"lips": 0.081, "amplitude": 0.5, "shut": 1.0})) == [
        "lips 0.081",
        "amplitude 0.50",
        "shut 1",
    ]
    assert faults(Row("a", "preview", GOOD | {"lips_gap": 9.0})) == []  # a second column, no goal


def test_a_summary_says_median_worst_and_how_many_are_beyond():
    values = {"a": 0.01, "b": 0.03, "c": 0.2}
    lines = summary([Row(pair, "preview", {"lips": value}) for pair, value in values.items()])
    assert lines == [
        {
            "renderer": "preview",
            "measure": "lips",
            "median": "0.030",
            "worst": "0.200",
            "in pair": "c",
            "beyond": "1 of 3",
            "goal": "<= 0.08, median <= 0.02",
            "median met": "NO",
        }
    ]


def test_of_goals_from_below_the_smallest_value_is_the_worst():
    rows = [Row(pair, "preview", {"amplitude": value}) for pair, value in (("a", 0.95), ("b", 0.4))]
    assert summary(rows)[0]["worst"] == "0.40"


def test_tables_have_a_row_for_every_pair_and_renderer(tmp_path):
    rows = [Row("a by b", "preview", GOOD), Row("a by b", "small model", GOOD | {"lids": 0.2})]
    write_results(tmp_path, rows, ["c by d: no face was found"])
    read = list(csv.DictReader((tmp_path / "table.csv").open(encoding="utf-8")))
    assert [(line["pair"], line["renderer"], line["beyond"]) for line in read] == [
        ("a by b", "preview", ""),
        ("a by b", "small model", "lids 0.200"),
    ]
    assert read[0]["gain"] == "" and read[0]["lips"] == "0.01"
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "**0.200**" in text and "1 of 2 rows meet" in text and "- c by d: no face was found" in text
    assert all(f"`{name}`" in text for name in GOALS)


def test_a_table_of_nothing_can_be_written():
    assert "0 of 0 rows" in to_markdown([])


def test_pictures_are_portraits_and_videos_are_drivers(tmp_path):
    for name in ("b.png", "a.jpg", "talks.mp4", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [pair.name for pair in folder_pairs([tmp_path])] == ["a by talks", "b by talks"]
    (tmp_path / "talks.mp4").unlink()
    with pytest.raises(ValueError, match="no videos"):
        folder_pairs([tmp_path])
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        folder_pairs([tmp_path / "nowhere"])


def test_chosen_pairs_are_found_in_any_of_the_folders(tmp_path):
    for name in ("one/a.png", "two/talks.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    folders, listed = [tmp_path / "one", tmp_path / "two"], tmp_path / "pairs.csv"
    listed.write_text("a.png,talks.mp4\n\n")
    assert listed_pairs(listed, folders) == [Pair(tmp_path / "two/talks.mp4", tmp_path / "one/a.png")]
    listed.write_text("a.png,other.mp4\n")
    with pytest.raises(FileNotFoundError, match="line 1 of .* there is no other.mp4"):
        listed_pairs(listed, folders)
    listed.write_text("a.png\n")
    with pytest.raises(ValueError, match="has 1 entries; expected portrait,driver"):
        listed_pairs(listed, folders)


def test_a_picture_is_widened_to_either_side():
    picture = torch.rand(3, 4, 6)
    wide = widened(picture, 1.0)
    assert wide.shape == (3, 4, 12) and torch.equal(wide[..., 6:], picture)
    assert torch.equal(wide[..., 0], picture[..., 0])  # the colours go on
    assert torch.equal(widened(picture, 0.0)[..., :6], picture)


def test_a_missing_package_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr(ugliness_media, "PACKAGES", "comfyui_workflow_templates_absent_")
    with pytest.raises(FileNotFoundError, match="comfyui-workflow-templates-absent-image is not installed"):
        template_file("image", "a.webp")


def test_the_telling_frames_are_shown_and_filled_up_evenly():
    mouth = torch.zeros(20)
    mouth[7] = 1
    chosen = telling_frames([mouth, mouth], 20, shown=4)
    assert len(chosen) == 4 and chosen == sorted(chosen) and {0, 7, 19} <= set(chosen)
    assert telling_frames([torch.zeros(3)], 3, shown=6) == [0, 1, 2]


def test_a_square_holds_a_face_in_all_its_places_within_the_picture():
    points = torch.tensor([[[80.0, 40.0], [100.0, 60.0]], [[70.0, 40.0], [90.0, 60.0]]])
    rows, columns = face_square(points, (100, 110))
    assert rows.stop - rows.start == columns.stop - columns.start == 34  # 1.15 of the 30 pixels it spans
    assert columns.start <= 70 and columns.stop >= 100 and rows.start >= 0 and columns.stop <= 110


def test_a_sheet_has_a_row_for_every_renderer_whole_and_large(tmp_path):
    portrait = torch.full((3, 20, 20), 200, dtype=torch.uint8)
    frames = torch.zeros(3, 3, 20, 20, dtype=torch.uint8)
    frames[2, 0] = 255
    part = slice(5, 15), slice(5, 15)
    path = tmp_path / "pair" / "sheet.png"
    write_sheet(
        path, portrait, {"driver": frames}, {"face": (frames, part)}, part, [0, 2], ["a", "b"], side=40
    )
    sheet = Image.open(path)
    assert sheet.size == (3 * 40, 24 + 2 * (24 + 40))
    assert sheet.getpixel((20, 24 + 24 + 20)) == (200, 200, 200)  # the portrait
    assert sheet.getpixel((100, 24 + 24 + 20)) == (255, 0, 0)  # frame 2 is in the last column


class Quick(Suite):
    """Renders nothing."""

    def measure(self, pair, portrait, clip, on_stage):
        if pair.driver.stem == "bad":
            raise ValueError("no face was found")
        made.append(pair.name)
        sheet = self.results(pair).folder / ugliness.SHEET
        sheet.parent.mkdir(parents=True, exist_ok=True)
        sheet.write_bytes(b"")
        return {"preview": {"lips": 0.5}}


made: list[str] = []


def test_one_bad_pair_does_not_stop_the_rest_and_what_was_made_is_kept(tmp_path, monkeypatch):
    made.clear()
    pairs = []
    for driver in ("talks", "bad"):
        for path in (tmp_path / f"{driver}.mp4", tmp_path / "me.png"):
            path.write_bytes(b"")
        pairs.append(Pair(tmp_path / f"{driver}.mp4", tmp_path / "me.png"))
    monkeypatch.setattr(Quick, "_clip", lambda self, path: None)
    monkeypatch.setattr(Quick, "_portrait", lambda self, path: None)
    suite = Quick(tmp_path / "out", None, None)
    said: list[str] = []
    for _ in range(2):
        rows, failed = suite.run(pairs, lambda done, total, pair, what, finished: said.append(what))
        assert rows == [Row("me by talks", "preview", {"lips": 0.5})]
        assert failed == ["me by bad: no face was found"]
    assert made == ["me by talks"] and "preview: lips 0.500 (kept)" in said
    monkeypatch.setattr(ugliness, "code_fingerprint", lambda: "other code")
    suite.run(pairs, lambda *_: None)
    assert made == ["me by talks"] * 2


def test_mistakes_are_said_in_a_sentence(tmp_path, capsys):
    for wrong in (["--no-templates"], ["--pairs", "x.csv"], ["--frames", "0"]):
        with pytest.raises(SystemExit) as stopped:
            check_pictures.main(wrong)
        assert stopped.value.code == 2
    capsys.readouterr()
    given = ["--no-templates", "--more", str(tmp_path), "--output", str(tmp_path / "out")]
    assert check_pictures.main(given) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "no pictures" in said


def test_the_template_media_are_enough_people(tmp_path):
    """With the packages of ComfyUI's host: 16 portraits, 4 of them off the middle, by 4 drivers."""
    for kind in ugliness_media.PORTRAITS:
        pytest.importorskip(ugliness_media.PACKAGES + kind)
    pairs = ugliness_media.template_pairs(tmp_path)
    assert len(pairs) == 16 * 4 and len({pair.folder for pair in pairs}) == 64
    assert all(pair.portrait.is_file() and pair.driver.is_file() for pair in pairs)
    wide = [path for path in Path(tmp_path).iterdir()]
    sizes = {Image.open(path).size for path in wide}
    assert len(wide) == 4 and all(width == 3 * height for width, height in sizes)
    save_image(torch.zeros(3, 8, 8), tmp_path / "extra.png")
    assert len(ugliness_media.template_pairs(tmp_path)) == 64  # made once
