"""The guided filter by hand: constants, edges that it follows, and a larger guide."""

import torch
import torch.nn.functional as F

from magicportrait_core.matting.guided_filter import box_mean, guided_filter


def two_colours(height: int, width: int, edge: int) -> torch.Tensor:
    """Blue left of the column `edge`, orange from there on, in [0, 1]."""
    picture = torch.tensor([0.1, 0.2, 0.7])[:, None, None].repeat(1, height, width)
    picture[:, :, edge:] = torch.tensor([0.9, 0.5, 0.1])[:, None, None]
    return picture


def test_a_constant_stays_constant():
    guide = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        guided_filter(guide, torch.full((1, 20, 30), 0.3), 3, 1e-4), torch.full((1, 20, 30), 0.3)
    )


def test_a_mask_moves_to_the_edge_of_the_guide():
    """The mask ends two pixels beside the edge; the filtered one has its step at the edge."""
    guide = two_colours(32, 40, 20)
    mask = torch.zeros(1, 32, 40)
    mask[:, :, 22:] = 1
    filtered = guided_filter(guide, mask, 6, 4e-4)[0, 16]
    steps = filtered[1:] - filtered[:-1]
    assert int(steps.argmax()) == 19  # between columns 19 and 20
    assert steps[19] > 0.5 and steps[21] < 0.1


def test_without_edges_it_is_the_mean_of_means():
    values = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(1))
    filtered = guided_filter(torch.full((3, 16, 16), 0.5), values, 2, 1e-4)
    torch.testing.assert_close(filtered, box_mean(box_mean(values, 2), 2), rtol=0, atol=4e-4)


def test_a_box_mean_of_a_pixel_is_a_square_of_its_share():
    values = torch.zeros(1, 7, 7)
    values[0, 3, 3] = 9
    expected = torch.zeros(1, 7, 7)
    expected[0, 2:5, 2:5] = 1
    torch.testing.assert_close(box_mean(values, 1), expected)


def test_a_larger_guide_gives_a_larger_mask_with_its_own_edge():
    large = two_colours(62, 79, 39)  # not a multiple of two: the edge lies inside a small pixel
    small = F.avg_pool2d(large[None], 2, ceil_mode=True)[0]
    mask = (small[:1] > 0.5).float()
    filtered = guided_filter(small, mask, 4, 4e-4, large)
    assert filtered.shape == (1, 62, 79)
    assert filtered[0, 30, 39] - filtered[0, 30, 38] > 0.5
