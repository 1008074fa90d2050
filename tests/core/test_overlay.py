"""The fitted head over its frame."""

from dataclasses import replace

import pytest
import torch
from turning_head import track_of

from magicportrait_core.guidance import render_guidance
from magicportrait_core.head.assets import load_head
from magicportrait_core.overlay import draw_points, overlay_frame


@pytest.fixture(scope="module")
def head():
    return load_head("open_head")


def ramp(height: int, width: int) -> torch.Tensor:
    return torch.linspace(-1, 1, height * width).view(1, height, width).expand(3, -1, -1)


def test_the_frame_is_kept_outside_the_head_and_tinted_inside(head):
    track = track_of(head, frames=1)
    image = ramp(*track.size)
    outside = render_guidance(head, track).mask[0, 0] == 0
    drawn = overlay_frame(image, head, track)
    assert torch.equal(drawn[:, outside], image[:, outside])
    assert (drawn - image).abs()[:, ~outside].mean() > 0.1


def test_a_frame_without_a_face_has_a_red_border(head):
    track = track_of(head, frames=1)
    drawn = overlay_frame(ramp(*track.size), head, replace(track, found=torch.tensor([False])))
    assert drawn[:, 0, 0].tolist() == pytest.approx([1.0, -0.7, -0.7])


def test_a_whole_clip_is_not_one_frame(head):
    with pytest.raises(ValueError, match="pass the one of this picture"):
        overlay_frame(ramp(96, 80), head, track_of(head))


def test_points_are_drawn_where_they_are():
    points = torch.tensor([[10.5, 20.5], [float("nan"), 3.0], [900.0, 5.0]])
    drawn = draw_points(torch.full((3, 40, 30), -1.0), points)
    assert (drawn[1] > 0.9).nonzero().tolist() == [[20, 10]]
