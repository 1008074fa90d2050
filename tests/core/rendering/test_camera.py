"""Where a head stands, whichever way its camera looks."""

import torch

from magicportrait_core.rendering.camera import Camera


def camera(place, focal=500.0, cx=300.0, cy=100.0, projection="perspective"):
    view = torch.cat((torch.eye(3), torch.tensor(place)[:, None]), 1)[None]
    return Camera(view, torch.tensor([[focal, cx, cy]]), (200, 400), projection)


def test_a_head_on_the_axis_stands_where_the_principal_point_is():
    """100 pixels right of the middle, at 2 m and 500 pixels of focal length: 0.4 m; 0 pixels above it."""
    looking = camera([0.0, 0.0, -2.0])
    torch.testing.assert_close(looking.places(), torch.tensor([[0.4, 0.0, -2.0]]))
    torch.testing.assert_close(looking.aims(), torch.tensor([[0.4, 0.0]]))


def test_with_the_principal_point_in_the_middle_the_place_is_the_views_translation():
    straight = camera([0.1, -0.2, -1.5], cx=200.0)
    assert torch.equal(straight.places(), straight.view[..., 3]) and not straight.aims().any()


def test_orthographic_places_count_in_pixels_per_metre():
    flat = camera([0.0, 0.1, -9.0], cx=250.0, cy=90.0, projection="orthographic")
    torch.testing.assert_close(flat.places(), torch.tensor([[0.1, 0.12, -9.0]]))


def test_aimed_aside_moves_the_head_and_not_its_view():
    before = camera([0.0, 0.0, -2.0])
    after = before.aimed_aside(torch.tensor([[-0.2, 0.1]]))
    assert torch.equal(after.view, before.view)
    torch.testing.assert_close(after.intrinsics, torch.tensor([[500.0, 250.0, 75.0]]))
    torch.testing.assert_close(after.places() - before.places(), torch.tensor([[-0.2, 0.1, 0.0]]))
