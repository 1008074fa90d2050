"""Options: what stands over what, and what people read about a wrong one."""

from __future__ import annotations

import json

import pytest
import yaml

from magicportrait_core.models.config import SMALL
from training.train_options import PRESETS, changes, command_line, from_values


def options(*arguments: object, phase: str = "appearance"):
    return command_line(phase, "", ["--data", "clips", "--output", "run", *map(str, arguments)])


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_are_valid_and_of_their_phase(path):
    phase, name = path.stem.split("_")
    found = options("--preset", name, phase=phase)
    assert found.model.config == name and found.phase == phase
    assert found.data.window == (12 if phase == "motion" else 1)


def test_the_paper_s_numbers_are_in_the_presets_of_the_released_model():
    first = options("--preset", "sd15")
    assert (first.optimizer.learning_rate, first.data.batch, first.run.steps) == (1e-5, 32, 45000)
    assert first.objective.kind == "v"
    second = options("--preset", "sd15", phase="motion")
    assert (second.optimizer.learning_rate, second.data.window, second.run.steps) == (1e-5, 12, 50000)


def test_the_command_line_stands_over_the_file_and_the_file_over_the_preset(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"data": {"batch": 5}, "optimizer": {"warmup": 7}, "run": {"steps": 9}}))
    found = options("--preset", "small", "--config", path, "--steps", 3, "--set", "optimizer.warmup=8")
    assert (found.data.batch, found.optimizer.warmup, found.run.steps) == (5, 8, 3)
    assert found.compute.precision == "bf16"  # of the preset


def test_numbers_as_people_write_them():
    assert options("--set", "optimizer.learning_rate=1e-5").optimizer.learning_rate == 1e-5
    assert options("--set", "optimizer.betas=[0, 1]").optimizer.betas == (0.0, 1.0)
    assert options("--set", "compute.precision=no").compute.precision == "no"
    assert options("--set", "data.augment.flip=0.5").data.augment.flip == 0.5


def test_folders_have_shares():
    found = command_line("appearance", "", ["--data", "a", "b=0.25", "--output", "run"])
    assert [(str(folder), share) for folder, share in found.data.stores()] == [("a", 1.0), ("b", 0.25)]


def test_sizes_of_networks_may_come_from_a_file(tmp_path):
    path = tmp_path / "sizes.json"
    path.write_text(json.dumps(SMALL.to_json() | {"name": "mine"}))
    config = options("--set", f"model.config={path}", "--set", "model.noise_scale=0.5").model.model_config()
    assert (config.name, config.unet, config.noise_scale) == ("mine", SMALL.unet, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimiser.warmup=3", "no option optimiser.*optimizer"),
        ("optimizer.warm=3", "no option optimizer.warm.*warmup"),
        ("optimizer.warmup=fast", "optimizer.warmup='fast'; expected a whole number"),
        ("optimizer.warmup=0.5", "expected a whole number"),
        ("optimizer.eight_bit=3", "expected true or false"),
        ("optimizer.decay=sudden", "expected one of constant, linear, cosine"),
        ("optimizer.warmup.x=3", "no option optimizer.warmup.x|warmup={'x': 3}"),
        ("model.config=huge", "expected sd15, small or a .json or .yaml file"),
        ("model.config=sd15", "objective.kind=v"),
        ("data.window=12", "first phase trains on single pictures"),
        ("data.batch=0", "data.batch=0; expected at least 1"),
        ("objective.reference_dropout=2", "a share of 0 to 1"),
        ("data.augment.flip=2", "augment flip=2; expected 0"),
        ("warmup", "expected group.name=value"),
    ],
)
def test_wrong_options_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        options("--set", text)


def test_options_of_the_other_phase_are_refused(tmp_path):
    path = tmp_path / "motion.yaml"
    path.write_text("phase: motion")
    with pytest.raises(ValueError, match="training.train_motion"):
        options("--config", path)


def test_options_survive_a_file(tmp_path):
    found = options("--preset", "small")
    assert from_values(json.loads(json.dumps(found.to_dict()))) == found


def test_what_decides_the_course_is_told_from_what_does_not():
    before = options("--preset", "small")
    after = options(
        "--preset", "small", "--set", "run.save_every=7", "--validate", "v", "--set", "optimizer.warmup=3"
    )
    assert changes(before.to_dict(), after.to_dict()) == ["optimizer.warmup was 100 and is 3"]
