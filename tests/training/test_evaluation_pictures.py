"""Measures of pictures have the values that can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("skimage")

from training.evaluation.pictures import (
    LARGEST_PSNR,
    colour_drift,
    flicker,
    mean,
    picture_metrics,
    psnr,
    ssim_map,
)


@pytest.fixture
def truth() -> torch.Tensor:  # (5, 3, 24, 20) uint8, levels 20 to 219
    return torch.randint(20, 220, (5, 3, 24, 20), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture
def head() -> torch.Tensor:  # (5, 1, 24, 20), the left half
    mask = torch.zeros(5, 1, 24, 20, dtype=torch.bool)
    mask[..., :10] = True
    return mask


def test_five_levels_off_everywhere_are_34_decibels(truth):
    assert psnr(truth[0] + 5, truth[0]) == pytest.approx(20 * math.log10(255 / 5), abs=1e-6)  # 34.15


def test_equal_pictures_have_the_largest_psnr_ssim_one_and_no_difference(truth, head):
    metrics = picture_metrics(truth, truth, head)
    assert metrics.pop("psnr_head") == metrics.pop("psnr") == LARGEST_PSNR
    assert metrics.pop("ssim_head") == pytest.approx(1) and metrics.pop("ssim") == pytest.approx(1)
    assert set(metrics.values()) == {0.0} and len(metrics) == 4


def test_the_head_alone_counts_in_the_heads_measures(truth, head):
    output = truth.clone()
    output[..., 10:] = 255 - output[..., 10:]  # the background is wrong
    metrics = picture_metrics(output, truth, head)
    assert metrics["psnr_head"] == LARGEST_PSNR and metrics["l1_head"] == 0
    assert metrics["psnr"] < 20 and metrics["l1"] > 20
    assert metrics["colour_drift"] == metrics["flicker"] == 0


def test_ssim_of_a_flat_picture_and_a_brighter_one_is_the_luminance_term():
    local = ssim_map(
        torch.full((3, 24, 24), 120, dtype=torch.uint8), torch.full((3, 24, 24), 60, dtype=torch.uint8)
    )
    constant = (0.01 * 255) ** 2  # Wang et al. 2004; variances are 0, so the other factor is 1
    expected = (2 * 120 * 60 + constant) / (120**2 + 60**2 + constant)
    torch.testing.assert_close(local, torch.full_like(local, expected), rtol=0, atol=1e-6)


def test_frames_that_do_not_count_change_flicker_only(truth, head):
    output = truth.clone()
    output[2] = 0
    metrics = picture_metrics(output, truth, head, counted=[0, 1, 3, 4])
    assert metrics["psnr"] == LARGEST_PSNR and metrics["colour_drift"] == 0 and metrics["flicker"] > 0


def test_a_fault_that_stays_does_not_flicker(truth, head):
    assert flicker(truth, truth, head) == 0
    assert flicker(truth + 30, truth, head) == 0


def test_every_other_frame_brighter_flickers_by_as_much(truth, head):
    output = truth.clone()
    output[1::2] += 7  # the change from frame to frame is off by +7, -7, ...
    assert flicker(output, truth, head) == pytest.approx(7)


def test_a_still_portrait_flickers_by_what_the_truth_moves(head):
    steps = torch.arange(5)[:, None, None, None] * 3
    truth = (steps + torch.zeros(5, 3, 24, 20)).to(torch.uint8)  # each frame 3 levels brighter
    assert flicker(truth[:1].expand_as(truth), truth, head) == pytest.approx(3)


def test_pictures_without_an_order_have_no_flicker(truth, head):
    assert math.isnan(picture_metrics(truth, truth, head, ordered=False)["flicker"])
    assert math.isnan(picture_metrics(truth[:1], truth[:1], head[:1])["flicker"])


def test_a_gain_drifts_the_colour_by_its_share(head):
    truth = torch.full((5, 3, 24, 20), 100, dtype=torch.uint8)
    brighter = (truth.float() * 1.1).round().to(torch.uint8)
    assert colour_drift(brighter, truth, head) == pytest.approx(10)
    redder = truth.clone()
    redder[:, 0] += 30
    assert colour_drift(redder, truth, head) == pytest.approx(10)  # 30 in one of three channels


def test_detail_alone_does_not_drift(truth, head):
    mirrored = truth.clone()
    mirrored[..., :10] = truth[..., :10].flip(-1)  # the same colours at other places of the head
    assert colour_drift(mirrored, truth, head) == pytest.approx(0, abs=1e-9)


def test_without_a_head_only_the_whole_picture_is_measured(truth):
    metrics = picture_metrics(truth + 5, truth, torch.zeros(5, 1, 24, 20, dtype=torch.bool))
    assert all(math.isnan(metrics[name]) for name in ("psnr_head", "ssim_head", "l1_head", "flicker"))
    assert metrics["l1"] == 5


def test_what_does_not_belong_together_is_refused(truth, head):
    with pytest.raises(ValueError, match=r"output is \(4, 3, 24, 20\), the truth \(5, 3, 24, 20\)"):
        picture_metrics(truth[:4], truth, head)
    with pytest.raises(ValueError, match="torch.float32"):
        picture_metrics(truth.float(), truth, head)


def test_a_mean_is_of_the_numbers():
    assert mean([1.0, math.nan, 3.0]) == 2 and math.isnan(mean([math.nan]))
