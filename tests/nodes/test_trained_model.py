"""What the training scripts write is a model of the nodes: the loader offers it, the workflow renders it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from drawn_clips import write_drawn_store
from example_workflows import FRAMES, Render, api, inputs_of, keep_results, node_named
from tiny_model import TINY

STEPS = 3  # of each phase; tests/training goes on to where something is learned


@pytest.fixture(scope="module")
def trained(server, tmp_path_factory) -> str:
    """A name of the loader: the tiny model after both phases."""
    from training.command import main

    folder = tmp_path_factory.mktemp("training")
    clips = write_drawn_store(folder / "clips", clips=1, frames=4)
    (folder / "tiny.json").write_text(json.dumps(TINY.to_json()))
    options = {"model.config": folder / "tiny.json", "run.steps": STEPS, "run.tracker": "none"}
    options |= {"compute.cpu": "true", "data.batch": 2, "optimizer.ema": 0, "optimizer.warmup": 1}
    sets = [part for name, value in options.items() for part in ("--set", f"{name}={value}")]
    first, second = folder / "first", server.base / "models" / "magicportrait" / "trained"
    begin = ["--data", str(clips), *sets]
    assert main("appearance", "", [*begin, "--output", str(first)]) == 0
    start = ["--start", str(first / "model"), "--set", "data.window=4"]
    assert main("motion", "", [*begin, *start, "--output", str(second)]) == 0
    return "trained/model"


def test_a_trained_model_renders(client, server, toy_inputs, trained):
    workflow = api("reenactment_small")
    inputs_of(workflow, "Portrait")["image"] = "small.png"
    inputs_of(workflow, "Driving video")["file"] = "spoken.mp4"
    inputs_of(workflow, "MagicPortrait")["model"] = trained
    inputs_of(workflow, "Sampler")["save_every"] = 0
    for key in [key for key, node in workflow.items() if node["class_type"] in ("CreateVideo", "SaveVideo")]:
        del workflow[key]
    keep_results(workflow)
    moved = {"images": [node_named(workflow, "Move the portrait"), 0], "filename_prefix": "trained"}
    workflow["warp"] = {"class_type": "SaveImage", "inputs": moved, "_meta": {"title": "Warp"}}
    render = Render(client, server, workflow)
    difference = np.abs(render.frames.astype(int) - render.pictures("Warp"))
    assert len(render.frames) == FRAMES
    assert 0.01 < difference.mean() < 20, "a few steps change the warp, and do not replace it"
