"""Runs at toy size: they go on exactly where they stopped, and lose nothing."""

from __future__ import annotations

import csv
import errno
import json
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_model import TINY

from magicportrait_core.checkpoints.loading import load_model
from training import trainer as trainer_module
from training.command import main
from training.run_state import NAME, read_state
from training.train_options import command_line
from training.trainer import Trainer, load_start, new_accelerator


@pytest.fixture
def arguments(tmp_path, drawn_store):
    """Of a run with everything that has a state; returns them with changes."""
    sizes = tmp_path / "tiny.json"
    sizes.write_text(json.dumps(TINY.to_json()))

    def build(output: str = "run", *more: object, **options: object) -> list[str]:
        values = {
            "model.config": sizes,
            "data.batch": 2,
            "run.steps": 6,
            "run.save_every": 2,
            "run.log_every": 3,
            "run.tracker": "none",
            "objective.later_steps": 0.5,
            "optimizer.warmup": 2,
            "compute.cpu": "true",
        } | options
        sets = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
        return ["--data", str(drawn_store), "--output", str(tmp_path / output), *sets, *map(str, more)]

    return build


def train(arguments: list[str], phase: str = "appearance") -> int:
    return main(phase, "", arguments)


def trainer_of(arguments: list[str]) -> Trainer:
    options = command_line("appearance", "", arguments)
    return Trainer(options, load_start(options), new_accelerator(options))


def differences(first: Path, second: Path) -> list[str]:
    """Names of what differs between two run states, by a single bit."""
    values = []
    for folder in (first, second):
        state = read_state(folder / NAME)
        moments = {f"{i} {key}": v for i, of in state.optimizer["state"].items() for key, v in of.items()}
        averages = {f"average {name}": value for name, value in state.average.items()}
        values.append({**state.weights, **averages, **moments, "step": torch.tensor(state.step)})
    assert values[0].keys() == values[1].keys()
    return [name for name in values[0] if not torch.equal(values[0][name], values[1][name])]


@pytest.fixture(autouse=True)
def _new_process():
    """accelerate keeps its first settings for the life of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_stopped_run_goes_on_bit_by_bit(arguments, tmp_path, monkeypatch, precision):
    options = {"compute.precision": precision}
    assert train(arguments("whole", **options)) == 0

    asked = iter([False, False, True])  # as if SIGTERM came in the third step
    monkeypatch.setattr(trainer_module, "_any", lambda *_: next(asked))
    assert train(arguments("parts", **options)) == 130
    assert read_state(tmp_path / "parts" / NAME).step == 3
    monkeypatch.undo()
    assert train(arguments("parts", **options)) == 0
    assert differences(tmp_path / "whole", tmp_path / "parts") == []
    curves = [[row["loss"] for row in rows(tmp_path / name)] for name in ("whole", "parts")]
    assert curves[0] == curves[1] and len(curves[0]) == 6
    assert (tmp_path / "whole/model/denoising_unet.safetensors").read_bytes() == (
        tmp_path / "parts/model/denoising_unet.safetensors"
    ).read_bytes()


def rows(output: Path) -> list[dict[str, str]]:
    path = output / "curve.csv"
    return list(csv.DictReader(path.open())) if path.exists() else []


def test_a_killed_run_repeats_the_steps_after_its_last_state(arguments, tmp_path):
    assert train(arguments("run")) == 0
    whole = rows(tmp_path / "run")
    assert train(arguments("killed", **{"run.steps": 4})) == 0
    with (tmp_path / "killed/curve.csv").open("a") as file:
        file.write("5,9,9,9,9\n")  # of a step whose state was never written
    assert train(arguments("killed")) == 0
    again = rows(tmp_path / "killed")
    assert [row["step"] for row in again] == ["1", "2", "3", "4", "5", "6"]
    # The first four steps had another end in sight, so another learning rate.
    assert again[4]["loss"] != "9" and len(whole) == 6


def test_gradients_of_parts_add_up(arguments):
    """One part or three: the same step up to rounding."""
    results = []
    for parts in (1, 2):
        trainer = trainer_of(arguments("run", **{"data.batch": 4, "compute.accumulate": parts}))
        results.append((trainer.make_step(trainer.batch(0)), trainer.parameters))
    (first, weights), (second, again) = results
    assert abs(first.loss - second.loss) < 1e-5 and abs(first.gradient / second.gradient - 1) < 1e-3
    assert weights.keys() == again.keys()


def test_checkpointing_changes_no_gradient(arguments):
    results = []
    for checkpointing in ("false", "true"):
        trainer = trainer_of(arguments("run", **{"compute.checkpointing": checkpointing}))
        results.append(trainer.make_step(trainer.batch(0)))
    assert results[0] == results[1]


def test_the_result_loads_and_is_the_average(arguments, tmp_path):
    assert train(arguments("run")) == 0
    model = load_model(tmp_path / "run/model")
    state = read_state(tmp_path / "run" / NAME)
    assert model.config == TINY and model.text.shape == (1, 1, TINY.unet.text_dim)
    name = "denoising_unet.conv_out.weight"
    assert torch.equal(model.denoising_unet.conv_out.weight, state.average[name])
    assert not torch.equal(state.average[name], state.weights[name])


def test_a_second_phase_trains_motion_modules_alone(arguments, tmp_path):
    assert train(arguments("first")) == 0
    second = arguments("second", "--start", tmp_path / "first/model", **{"data.window": 4})
    assert train(second, "motion") == 0
    before, after = (load_model(tmp_path / name / "model") for name in ("first", "second"))
    for role, old in {"appearance_net": before.appearance_net, "unet": before.denoising_unet}.items():
        new = after.appearance_net if role == "appearance_net" else after.denoising_unet
        changed = {n for n, v in old.state_dict().items() if not torch.equal(v, new.state_dict()[n])}
        assert all(".motion_modules." in name for name in changed)
        assert bool(changed) == (role == "unet")


def test_a_changed_option_is_named(arguments, capsys):
    assert train(arguments("run", **{"run.steps": 2})) == 0
    assert train(arguments("run", **{"optimizer.learning_rate": 0.5})) == 1
    assert "optimizer.learning_rate was 0.001 and is 0.5" in capsys.readouterr().err
    more = {"optimizer.learning_rate": 0.0005, "run.allow_changes": "true", "run.steps": 3}
    assert train(arguments("run", **more)) == 0


def test_other_weights_to_start_from_are_noticed(arguments, tmp_path, capsys):
    for name, seed in (("a", 0), ("b", 1)):
        assert train(arguments(name, "--seed", seed, **{"run.steps": 1})) == 0
    options = {"data.window": 4, "run.steps": 1}
    start = tmp_path / "start"
    (tmp_path / "a/model").rename(start)
    assert train(arguments("second", "--start", start, **options), "motion") == 0
    start.rename(tmp_path / "old")
    (tmp_path / "b/model").rename(start)
    assert train(arguments("second", "--start", start, **options), "motion") == 1
    assert "started from other weights" in capsys.readouterr().err


@pytest.fixture
def breaks_at(monkeypatch):
    """breaks_at(step): that step's loss is no number."""
    real = trainer_module.loss_of

    def install(step: int) -> None:
        left = iter(range(1, 100))
        monkeypatch.setattr(
            trainer_module,
            "loss_of",
            lambda *given: real(*given) * (float("nan") if next(left) == step else 1.0),
        )

    yield install
    monkeypatch.undo()


@pytest.mark.parametrize(("step", "kept"), [(2, 1), (4, 2)], ids=["before a state", "after one"])
def test_a_loss_that_is_no_number_stops_the_run_and_ruins_no_state(
    arguments, tmp_path, breaks_at, capsys, step, kept
):
    breaks_at(step)
    assert train(arguments("run")) == 1
    assert f"error: step {step}: the loss is nan" in capsys.readouterr().err
    state = read_state(tmp_path / "run" / NAME)
    assert state.step == kept and all(value.isfinite().all() for value in state.weights.values())


def test_a_damaged_file_of_clips_costs_no_step(arguments, tmp_path, drawn_store, monkeypatch, capsys):
    real = Trainer.batch

    def batch(self, step):
        if step == 3:
            raise ValueError("shard-00000.safetensors is damaged")
        return real(self, step)

    monkeypatch.setattr(Trainer, "batch", batch)
    assert train(arguments("run")) == 1
    assert "error: shard-00000.safetensors is damaged" in capsys.readouterr().err
    assert read_state(tmp_path / "run" / NAME).step == 3
    monkeypatch.undo()
    assert train(arguments("run")) == 0
    assert train(arguments("whole")) == 0
    assert differences(tmp_path / "run", tmp_path / "whole") == []


def test_a_full_disk_keeps_the_old_state(arguments, tmp_path, monkeypatch, capsys):
    assert train(arguments("run", **{"run.steps": 2})) == 0
    before = (tmp_path / "run" / NAME).read_bytes()
    from training import run_state

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_state.os, "fsync", full)
    assert train(arguments("run", **{"run.steps": 5})) == 1
    told = capsys.readouterr()
    assert "saves again at step 6" in told.out and "No space left on device" in told.err
    assert (tmp_path / "run" / NAME).read_bytes() == before
    assert [path.name for path in (tmp_path / "run").glob(".*")] == []


def test_what_a_killed_writer_left_goes_away(arguments, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.state.pt.12345.part").write_bytes(b"half")
    assert train(arguments("run", **{"run.steps": 1})) == 0
    assert [path.name for path in (tmp_path / "run").glob(".*")] == []


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_a_damaged_state_is_named(arguments, tmp_path, capsys, damage):
    assert train(arguments("run", **{"run.steps": 1})) == 0
    path = tmp_path / "run" / NAME
    path.write_bytes(path.read_bytes()[:1000] if damage == "cut" else b"hello")
    assert train(arguments("run")) == 1
    assert "is no run state that can be read" in capsys.readouterr().err


def test_states_do_not_run_what_is_in_them(tmp_path):
    import pickle

    class Bad:
        def __reduce__(self):
            return (print, ("ran",))

    (tmp_path / NAME).write_bytes(pickle.dumps(Bad()))
    with pytest.raises(ValueError, match="no run state that can be read"):
        read_state(tmp_path / NAME)
    assert read_state(tmp_path / "none.pt") is None


def test_a_dry_run_says_what_learns_and_writes_nothing(arguments, tmp_path, capsys):
    assert train(arguments("run", "--dry-run")) == 0
    told = capsys.readouterr().out
    assert "phase appearance, model tiny, 6 steps of 2 rows" in told and "one step: loss" in told
    trainer = trainer_of(arguments("run"))
    learning = sum(p.numel() for p in trainer.parameters.values())
    assert sum(count for count, _ in trainer.networks.counts().values()) == learning
    assert not (tmp_path / "run").exists()


def test_validation_numbers_and_sheet(arguments, tmp_path, drawn_store):
    options = {
        "validation.every": 3,
        "validation.rows": 3,
        "validation.pictures": 2,
        "validation.steps": [1, 2],
    }
    assert train(arguments("run", "--validate", drawn_store, **options)) == 0
    found = list(csv.DictReader((tmp_path / "run/validation.csv").open()))
    assert [row["step"] for row in found] == ["3", "6"]
    assert found[0].keys() == {"step", "still", "warp", "steps_1", "steps_2"}
    assert found[0]["warp"] == found[1]["warp"] and float(found[0]["warp"]) > float(found[0]["still"])
    from PIL import Image

    with Image.open(tmp_path / "run/validation/step_000006.png") as sheet:
        assert sheet.size == (5 * 64, 2 * 64)  # portrait, truth, warp, network twice


def test_signals_are_put_back(arguments):
    before = signal.getsignal(signal.SIGTERM)
    assert train(arguments("run", **{"run.steps": 1})) == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model.start": "nowhere"}, "nowhere"),
        ({"run.tracker": "clearml"}, "run.tracker=clearml is not installed.*run.tracker=none"),
        ({"run.tracker": "chalk"}, "chalk"),
        ({"optimizer.eight_bit": "true"}, "needs the package bitsandbytes.*eight_bit=false"),
    ],
)
def test_what_is_missing_is_named(arguments, capsys, monkeypatch, options, message):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)  # as if it were not installed
    assert train(arguments("run", **options)) == 1
    assert re.search(f"^error: .*{message}", capsys.readouterr().err)
