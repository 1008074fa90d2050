"""training.picture_run: what it draws from the files of a run."""

import math

import pytest
from PIL import Image

from training import curve, picture_run, validation

SIDE = 8
COLOURS = {"still": (255, 0, 0), "truth": (0, 255, 0), "warp": (0, 0, 255), "steps_4": (9, 9, 9)}


@pytest.fixture
def run(tmp_path):
    """A run with three sheets of two rows; the one-step column is grey of 10 levels per hundred steps."""
    folder = tmp_path / "first"
    (folder / picture_run.SHEETS).mkdir(parents=True)
    (folder / picture_run.CURVE).write_text("step,loss\n1,4\n2,2\n3,\n", encoding="utf-8")
    (folder / picture_run.VALIDATION).write_text(
        "step,still,warp,steps_1,steps_4\n100,16,21,21,20\n300,16,21,23,22\n", encoding="utf-8"
    )
    for step in (100, 200, 300):
        sheet = Image.new("RGB", (5 * SIDE, 2 * SIDE))
        for i, name in enumerate(("still", "truth", "warp", "steps_1", "steps_4")):
            colour = COLOURS.get(name, (step // 10,) * 3)
            sheet.paste(Image.new("RGB", (SIDE, 2 * SIDE), colour), (i * SIDE, 0))
        sheet.save(folder / picture_run.SHEETS / f"step_{step:06d}.png")
    return folder


def test_files_are_those_that_training_writes():
    assert (picture_run.CURVE, picture_run.VALIDATION) == (curve.CURVE, curve.VALIDATION)
    assert picture_run.SHEETS == validation.FOLDER and "loss" in curve.COLUMNS


def test_samples_show_the_course_of_the_training(run, tmp_path, capsys):
    assert picture_run.main([str(run), "--output", str(tmp_path / "out")]) == 0
    paths = capsys.readouterr().out.split()
    assert paths == [str(tmp_path / "out" / name) for name in ("curve_first.png", "samples_first.png")]
    samples = Image.open(paths[1])
    assert samples.size == (7 * SIDE, 2 * SIDE + picture_run.LABEL_HEIGHT)
    row = [samples.getpixel((i * SIDE + 3, samples.height - 2)) for i in range(7)]
    greys = [(step // 10,) * 3 for step in (100, 200, 300)]
    assert row == [*[COLOURS[name] for name in ("still", "truth", "warp")], *greys, COLOURS["steps_4"]]
    assert min(Image.open(paths[0]).size) > 300


def test_smoothing_is_the_mean_of_the_last_values():
    assert picture_run.smoothed([1, 3, 5, 7], 2) == [1, 2, 4, 6]


def test_missing_numbers_are_nan(run):
    columns = picture_run.read_columns(run / picture_run.CURVE)
    assert columns["loss"][:2] == [4, 2] and math.isnan(columns["loss"][2])


def test_few_sheets_are_all_shown():
    assert picture_run.spread([1, 2, 3], 4) == [1, 2, 3]
    assert picture_run.spread(list(range(10)), 4) == [0, 3, 6, 9]
    assert picture_run.spread([5], 4) == [5]


def test_a_folder_without_a_run_is_one_sentence(tmp_path, capsys):
    assert picture_run.main([str(tmp_path), "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path} has no curve.csv: name the --output folder of a training command\n"
    )
