"""A small picture's correction on a large warp: where it counts, and what is left exactly alone."""

import pytest
import torch
from warped_clips import warped_clip

from magicportrait_core.correction import corrected, correction_weight
from magicportrait_core.models.config import WarpPriorConfig
from magicportrait_core.warp.sources import OUTSIDE, PHOTO

CONFIG = WarpPriorConfig()  # near up to 2 cells, around up to 5


def test_the_weight_falls_evenly_through_the_outer_ring():
    """A head of one column of cells: beside it the cells have 1, 1, 1, 2/3, 1/3, 0. Pixels have a mean of the
    two nearest cells: the inner two of a cell 7/8 of its own and 1/8 of one neighbour's."""
    labels = torch.full((1, 1, 64, 128), OUTSIDE, dtype=torch.uint8)
    labels[..., 64:68] = PHOTO
    weight = correction_weight(labels, CONFIG, 4)
    assert weight.shape == labels.shape and weight.min() == 0 and weight.max() == 1
    middles = weight[0, 0, 30].view(32, 4)[:, 1:3].mean(1)
    assert middles[16:24].tolist() == pytest.approx([1, 1, 1, 47 / 48, 2 / 3, 1 / 3, 1 / 48, 0], abs=1e-6)
    assert torch.equal(weight, weight[..., 3:4, :].expand_as(weight))  # the picture's edge is no ring
    torch.testing.assert_close(middles[10:16].flip(0), middles[17:23])


def test_a_frame_without_a_head_is_the_warp():
    labels = torch.full((1, 1, 64, 64), OUTSIDE, dtype=torch.uint8)
    assert correction_weight(labels, CONFIG, 4).max() == 0


def test_no_correction_leaves_the_large_warp_alone_bit_for_bit():
    large, small = torch.rand(3, 100, 60) * 2 - 1, torch.rand(3, 48, 32) * 2 - 1
    assert torch.equal(corrected(large, small, small.clone(), torch.ones(1, 48, 32)), large)
    other = torch.rand(3, 48, 32)
    assert torch.equal(corrected(large, small, other, torch.zeros(1, 48, 32)), large)


def test_a_flat_correction_is_added_everywhere_and_clamped():
    large = torch.linspace(-1, 1, 100).expand(3, 80, 100).contiguous()
    small = torch.zeros(3, 20, 28)
    result = corrected(large, small, small + 0.5, torch.ones(1, 20, 28))
    torch.testing.assert_close(result, (large + 0.5).clamp(max=1), rtol=0, atol=1e-6)


def test_at_one_size_the_networks_picture_counts_where_the_weight_is_1():
    warp, picture = torch.rand(2, 3, 32, 32)
    weight = torch.ones(1, 32, 32)
    weight[:, :, 16:] = 0
    result = corrected(warp, warp, picture, weight)
    assert torch.equal(result[..., :16], picture[..., :16]) and torch.equal(result[..., 16:], warp[..., 16:])


def test_far_from_the_head_the_result_is_the_warp():
    warped = warped_clip(1, (256, 256))
    labels = torch.full_like(warped.labels, OUTSIDE)
    labels[..., 32:64, 32:64] = PHOTO
    small = warped.resized((64, 64))
    weight = correction_weight(torch.nn.functional.interpolate(labels, scale_factor=0.25), CONFIG, 4)[0]
    large, little = warped.warp_levels[0] / 127.5 - 1, small.warp_levels[0] / 127.5 - 1
    result = corrected(large, little, -little, weight)
    changed = (result != large).any(0)
    assert changed[32:64, 32:64].float().mean() > 0.99
    assert not changed[160:].any() and not changed[:, 160:].any()
