"""Both phases at toy size, to where something is learned. A minute on one core."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from drawn_clips import write_drawn_store
from tiny_model import TINY

from magicportrait_core.checkpoints.loading import load_model
from magicportrait_core.warp.sources import OUTSIDE
from training.clip_store import Clip, ClipStore, ClipWriter
from training.evaluation.stored_clip import sample_stored, warped_clip

OFF = {f"data.augment.{name}": 0 for name in ("flip", "colour", "grey", "crop", "blur", "noise")}
SQUARES = {"objective.psnr": 0, "objective.edges": 0, "objective.squares": 100}  # of which half is a fact
PLAIN = OFF | SQUARES | {"objective.reference_dropout": 0, "optimizer.warmup": 10, "run.steps": 120}
FIRST = PLAIN | {"data.batch": 4, "optimizer.learning_rate": 0.003}
SECOND = PLAIN | {"data.batch": 1, "data.window": 4, "optimizer.learning_rate": 0.02}


@dataclass(frozen=True)
class Runs:
    clip: Clip  # what the first phase sees
    flickering: Clip  # the second: in every other frame of its warp the head is darker
    first: Path  # output folders
    second: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory, arguments_of, train) -> Runs:
    folder = tmp_path_factory.mktemp("micro")
    clip = ClipStore(write_drawn_store(folder / "clips", clips=1, frames=4)).read(0)
    flickering = darker_in_every_other_frame(clip)
    with ClipWriter(folder / "flickering") as writer:
        writer.add(flickering)
    first, second = folder / "first", folder / "second"
    assert train("appearance", arguments_of(folder / "clips", first, FIRST)) == 0
    more = ("--start", first / "model")
    assert train("motion", arguments_of(folder / "flickering", second, SECOND, *more)) == 0
    return Runs(clip, flickering, first, second)


def darker_in_every_other_frame(clip: Clip) -> Clip:
    warp, head = clip.maps["warp"].clone(), clip.maps["sources"] != OUTSIDE
    warp[1::2] = (warp[1::2] * (1 - 0.2 * head[1::2])).to(torch.uint8)
    return replace(clip, maps=clip.maps | {"warp": warp})


@pytest.mark.parametrize("phase", ["first", "second"])
def test_the_loss_falls_below_half(runs, phase):
    with (getattr(runs, phase) / "curve.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_the_result_is_nearer_to_the_truth_than_the_warp_it_starts_from(runs):
    assert error(drawn(runs.first, runs.clip), runs.clip) < 0.75 * error(runs.clip.maps["warp"], runs.clip)


def test_motion_modules_take_the_flicker_out(runs):
    """Single pictures cannot tell which frame is darker than its neighbours."""
    clip = runs.flickering
    before, after = (change(drawn(folder, clip), clip) for folder in (runs.first, runs.second))
    assert after < 0.75 * before


def test_the_second_phase_changes_motion_modules_and_nothing_else(runs):
    first, second = (load_model(folder / "model", torch.float32) for folder in (runs.first, runs.second))
    for name in ("appearance_net", "denoising_unet", "guidance_encoders"):
        before, after = (getattr(model, name).state_dict() for model in (first, second))
        differ = {key for key in before if not torch.equal(before[key], after[key])}
        assert differ == {key for key in before if "motion_modules" in key and "positions" not in key}


def drawn(folder: Path, clip: Clip) -> torch.Tensor:
    """What a trained model makes of a clip in one step."""
    model = load_model(folder / "model", torch.float32)
    return sample_stored(model, TINY, torch.zeros(1, 1, TINY.unet.text_dim), warped_clip(clip, TINY))


def error(frames: torch.Tensor, clip: Clip) -> float:
    """Levels."""
    return (frames.float() - clip.frames).abs().mean().item()


def change(frames: torch.Tensor, clip: Clip) -> float:
    """Levels between neighbouring frames that are not the truth's, on the head."""
    head = (clip.maps["sources"] != OUTSIDE).float()
    both = (head[1:] * head[:-1]).expand(-1, 3, -1, -1)
    differences = (frames.float() - clip.frames).diff(dim=0).abs()
    return ((differences * both).sum() / both.sum()).item()
