import torch

from magicportrait_core.warp.fill import pixel_centres
from magicportrait_core.warp.polygon import coverage, distance_to_line, signed_distance

SQUARE = torch.tensor([[2.0, 2.0], [8.0, 2.0], [8.0, 6.0], [2.0, 6.0]])


def test_the_signed_distance_to_a_rectangle_is_that_of_hand_calculation():
    pixels = torch.tensor([[5.0, 5.0, 11.0, 5.0], [4.0, 2.0, 10.0, 9.0]])[:, None]
    expected = torch.tensor([[-2.0, 0.0, 5.0, 3.0]])  # centre, edge, 3-4-5 from the corner, below
    torch.testing.assert_close(signed_distance(SQUARE, pixels), expected)


def test_coverage_sums_to_the_area_of_the_polygon():
    area = coverage(signed_distance(SQUARE, pixel_centres((12, 12), SQUARE))).sum()
    assert abs(float(area) - 24) < 0.6


def test_the_direction_of_the_corners_does_not_matter():
    pixels = pixel_centres((12, 12), SQUARE)
    torch.testing.assert_close(signed_distance(SQUARE, pixels), signed_distance(SQUARE.flip(0), pixels))


def test_the_distance_to_an_open_line_ends_at_its_ends():
    line = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    pixels = torch.tensor([[2.0, 7.0], [3.0, 4.0]])[:, None]
    torch.testing.assert_close(distance_to_line(line, pixels), torch.tensor([[3.0, 5.0]]))
