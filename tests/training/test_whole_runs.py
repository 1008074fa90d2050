"""Runs as users start them: killed, in two processes, on bad material. Nothing is lost."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from drawn_clips import write_drawn_store
from tiny_model import TINY
from torch import Tensor

from magicportrait_core.models.initial import new_networks
from training.augment import NO_AUGMENT
from training.clip_store import ClipStore
from training.examples import Examples
from training.run_state import NAME, RunState, read_state
from training.trained_networks import TrainedNetworks

STEPS = 12
OPTIONS = {
    "run.steps": STEPS,
    "run.save_every": 4,
    "objective.later_steps": 0.5,
    "optimizer.warmup": 2,
    "optimizer.learning_rate": 0.003,
}


def tensors_of(state: RunState) -> dict[str, Tensor]:
    """Everything that the next step depends on."""
    moments = {f"{i} {name}": v for i, of in state.optimizer["state"].items() for name, v in of.items()}
    averages = {f"average {name}": value for name, value in state.average.items()}
    return {**state.weights, **averages, **moments, "step": torch.tensor(state.step)}


def assert_same_bits(first: Path, second: Path) -> None:
    """States, curves and models of two runs."""
    states = [tensors_of(read_state(folder / NAME)) for folder in (first, second)]
    assert states[0].keys() == states[1].keys()
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []
    assert losses(first) == losses(second)
    for path in (first / "model").iterdir():
        assert path.read_bytes() == (second / "model" / path.name).read_bytes(), path.name


def kept(output: Path) -> dict[Path, bytes]:
    """The files of a run but its curve."""
    return {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and path.suffix != ".csv"}


def losses(output: Path) -> list[float]:
    with (output / "curve.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, drawn_store, arguments_of, train) -> Path:
    """The output of a run that nothing happened to."""
    output = tmp_path_factory.mktemp("whole")
    assert train("appearance", arguments_of(drawn_store, output, OPTIONS)) == 0
    assert len(losses(output)) == STEPS
    return output


def test_a_killed_run_goes_on_bit_by_bit(
    tmp_path, drawn_store, arguments_of, train, script_settings, whole, capsys
):
    """Killed without warning in another process, and finished in this one."""
    arguments = arguments_of(drawn_store, tmp_path, OPTIONS)
    command = [sys.executable, "-m", "training.train_appearance", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, **script_settings) as process:
        seen = []
        for line in process.stdout:
            seen.append(line)
            if line.startswith("step 6/"):
                process.kill()
    assert process.returncode == -9, "".join(seen)
    assert read_state(tmp_path / NAME).step == 4, "the state before step 6"
    assert train("appearance", arguments) == 0
    assert "going on after step 4 of 12" in capsys.readouterr().out
    assert_same_bits(tmp_path, whole)


def test_two_processes_make_the_steps_of_one(tmp_path, drawn_store, arguments_of, script_settings, whole):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command += ["-m", "training.train_appearance", *arguments_of(drawn_store, tmp_path, OPTIONS)]
    done = subprocess.run(command, capture_output=True, timeout=900, **script_settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("step 1/12") == 1, "only the main process reports"
    assert losses(tmp_path) == pytest.approx(losses(whole), rel=1e-3)
    start = dict(TrainedNetworks(new_networks(TINY), TINY, "appearance", torch.zeros(1, 1, 16)).trained())
    alone, together = (read_state(folder / NAME).weights for folder in (whole, tmp_path))
    moved = sum((alone[name] - start[name]).square().sum() for name in start).sqrt()
    apart = sum((alone[name] - together[name]).square().sum() for name in start).sqrt()
    assert moved > 0.5, "the run has learned nothing that could differ"
    assert apart < 0.01 * moved


def test_a_damaged_shard_is_named_and_the_run_goes_on_when_it_is_whole_again(
    tmp_path, arguments_of, train, capsys
):
    store = write_drawn_store(tmp_path / "clips", clips=3, frames=2, shard_bytes=1)  # a shard for each clip
    options = OPTIONS | {"data.batch": 1}
    rows = Examples([(ClipStore(store), 1.0)], TINY, 1, 1, 0, NO_AUGMENT)
    names = [rows.clip_at(step).name for step in range(STEPS)]
    last = max(set(names), key=names.index)  # the clip that is read last
    shard = store / next(info.shard for info in ClipStore(store) if info.name == last)
    shutil.move(shard, tmp_path / "kept")
    shard.write_bytes((tmp_path / "kept").read_bytes()[:5000])

    arguments = arguments_of(store, tmp_path / "run", options)
    assert train("appearance", arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: {shard} is damaged or missing") and message.count("\n") == 1
    assert names.index(last) >= 2
    assert read_state(tmp_path / "run" / NAME).step == names.index(last), "the steps before are kept"

    shutil.move(tmp_path / "kept", shard)
    assert train("appearance", arguments) == 0
    assert train("appearance", arguments_of(store, tmp_path / "whole", options)) == 0
    assert_same_bits(tmp_path / "run", tmp_path / "whole")


def test_a_full_disk_leaves_the_old_state_and_model(
    tmp_path, drawn_store, arguments_of, train, whole, capsys
):
    resource = pytest.importorskip("resource")  # not on Windows
    shutil.copytree(whole, tmp_path / "run")
    before = kept(tmp_path / "run")
    arguments = arguments_of(drawn_store, tmp_path / "run", OPTIONS | {"run.steps": STEPS + 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))  # files of a megabyte at most
    try:
        assert train("appearance", arguments) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = capsys.readouterr().err
    assert "error: " in message and "cannot be written" in message and "Traceback" not in message
    assert kept(tmp_path / "run") == before
    assert train("appearance", arguments) == 0
    assert read_state(tmp_path / "run" / NAME).step == STEPS + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer.lr": 1}, "there is no option optimizer.lr"),
        ({"data.augment.flips": 1}, "there is no option data.augment.flips"),
        ({"data.augment.noise": -1}, "augment noise=-1"),
        ({"data.batch": 0}, "data.batch=0; expected at least 1"),
        ({"model.config": "tinny"}, "tinny"),
    ],
)
def test_a_wrong_option_is_one_sentence(tmp_path, drawn_store, arguments_of, train, capsys, options, message):
    assert train("appearance", arguments_of(drawn_store, tmp_path / "run", options)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_without_clips_is_one_sentence(tmp_path, arguments_of, train, capsys):
    (tmp_path / "empty").mkdir()
    assert train("appearance", arguments_of(tmp_path / "empty", tmp_path / "run")) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'empty'} has no index.json; make the data with")
    assert not (tmp_path / "run").exists()
