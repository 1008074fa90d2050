"""Scores of the landmark network as turns of the eyes."""

import math

import pytest
import torch

from magicportrait_core.head.skinning import axis_angle_to_matrix
from magicportrait_core.tracking.gaze import gaze_of_scores
from magicportrait_core.tracking.landmarker_networks import BLENDSHAPE_NAMES

LEFT, RIGHT = 0, 1
FORWARD = torch.tensor([0.0, 0.0, 1.0])  # x is the person's left, y up


def looking(**scores):
    row = torch.zeros(1, 52)
    for name, value in scores.items():
        row[0, BLENDSHAPE_NAMES.index(name)] = value
    return axis_angle_to_matrix(gaze_of_scores(row)[0]) @ FORWARD  # (2, 3)


@pytest.mark.parametrize(
    ("name", "eye", "axis", "degrees"),
    [
        ("eyeLookOutLeft", LEFT, 0, 30),
        ("eyeLookInLeft", LEFT, 0, -30),
        ("eyeLookOutRight", RIGHT, 0, -30),
        ("eyeLookInRight", RIGHT, 0, 30),
        ("eyeLookUpLeft", LEFT, 1, 20),
        ("eyeLookDownRight", RIGHT, 1, -25),
    ],
)
def test_each_score_turns_its_eye(name, eye, axis, degrees):
    directions = looking(**{name: 1.0})
    assert directions[eye, axis].item() == pytest.approx(math.sin(math.radians(degrees)), abs=1e-6)
    assert torch.equal(directions[1 - eye], FORWARD)


def test_half_a_score_turns_half_as_far():
    assert looking(eyeLookOutLeft=0.5)[LEFT, 0].item() == pytest.approx(math.sin(math.radians(15)), abs=1e-6)
