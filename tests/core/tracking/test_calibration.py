from dataclasses import replace

import pytest
import torch

from magicportrait_core.head.assets import load_head
from magicportrait_core.tracking.calibration import (
    CalibrationOptions,
    calibrate,
    closest_point,
    geometric_median,
    mean_spread,
)


def test_few_renders_find_the_landmarks_of_the_asset():
    head = load_head()
    steps = []
    options = CalibrationOptions(people=2, least_hits=3)
    found = calibrate(replace(head, landmarks=None), options, on_step=lambda *step: steps.append(step))
    assert steps[-1] == (10, 10)
    both = found.matched & (head.landmarks.spread < 0.003)
    assert both.sum() > 300
    template = head.template[None]
    apart = (found.points(template, head.faces) - head.landmark_points(template))[0, both].norm(dim=-1)
    assert apart.median() < 0.002
    assert mean_spread(found)[0] < 0.003


def test_thing_that_is_no_head_is_refused_with_a_sentence():
    head = load_head()
    flat = replace(
        head, template=head.template * torch.tensor([1.0, 1.0, 0.0]), shape_basis=head.shape_basis * 0
    )
    with pytest.raises(ValueError, match="no face was found in 1 renders"):
        calibrate(flat, CalibrationOptions(people=1, yaws=(180.0,)))


def test_geometric_median_stays_with_the_many():
    points = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [-0.1, 0, 0], [0, 0.1, 0], [0, -0.1, 0], [50, 0, 0]])
    assert geometric_median(points, torch.ones(6)).norm() < 0.1


def test_closest_point_of_a_triangle():
    corners = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], [[5.0, 0, 0], [6, 0, 0], [5, 1, 0]]])
    triangle, bary = closest_point(torch.tensor([0.25, 0.5, 3.0]), corners)
    assert triangle == 0
    torch.testing.assert_close(bary, torch.tensor([0.25, 0.25, 0.5]))
