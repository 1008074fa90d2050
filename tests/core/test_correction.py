"""A small picture on a large warp: what is added on the head, and what is left alone."""

from dataclasses import replace

import pytest
import torch
from warped_clips import warped_clip

from magicportrait_core.contrast import contrast_share
from magicportrait_core.correction import believed, corrected, enlarged_within
from magicportrait_core.trust import JUDGED, Trust
from magicportrait_core.warp.sources import FILLED, MIRRORED, MOUTH, OUTSIDE, PHOTO, STRETCHED
from magicportrait_core.warped_portrait import WarpedPortrait

GREY = 128 / 127.5 - 1
WHOLE = Trust((0.0, 90.0), dict.fromkeys(JUDGED, (1.0, 1.0)))


def flat(warp: int, still: int, label: int, side: int = 64) -> WarpedPortrait:
    """One frame of one colour, of one source."""
    return WarpedPortrait(
        torch.full((3, side, side), still, dtype=torch.uint8),
        torch.full((1, 3, side, side), warp, dtype=torch.uint8),
        torch.full((1, 1, side, side), label, dtype=torch.uint8),
        torch.zeros(1),
    )


def drawn_face(seed: int, side: int = 256) -> WarpedPortrait:
    """One frame, all of it head: skin that is lit from the left, two brows, lips, the grain of a photo."""
    noise = torch.randn(side, side, generator=torch.Generator().manual_seed(seed))
    picture = torch.linspace(200, 150, side).expand(side, side) + 6 * noise
    for rows, columns in (((80, 92), (50, 110)), ((80, 92), (146, 206)), ((180, 200), (90, 166))):
        picture[slice(*rows), slice(*columns)] -= 100
    levels = picture.clamp(0, 255).to(torch.uint8).expand(1, 3, side, side).contiguous()
    labels = torch.full((1, 1, side, side), PHOTO, dtype=torch.uint8)
    return WarpedPortrait(levels[0], levels, labels, torch.zeros(1))


def deviation(picture: torch.Tensor, side: int = 256) -> torch.Tensor:
    """Of the luma (3, 256, 256) in windows of so many pixels."""
    luma = (picture * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0).double()
    return luma.unfold(0, side, side // 2).unfold(1, side, side // 2).std((-2, -1))


@pytest.mark.parametrize("size", [(64, 64), (150, 102)])
def test_a_network_that_agrees_leaves_the_large_warp_alone_bit_for_bit(size):
    warped = warped_clip(1, size)
    small = warped.resized((64, 48)).warp_levels[0] / 127.5 - 1
    assert torch.equal(corrected(warped, small), warped.warp_levels[0] / 127.5 - 1)


def test_on_the_head_the_correction_is_added_to_the_large_warp():
    """5 levels brighter everywhere: within what is believed of a picture of one colour."""
    warped = flat(128, 128, PHOTO, side=256)
    warped.warp_levels[..., ::2] += 1  # detail that only the large warp has
    small = warped.resized((64, 64)).warp_levels[0] / 127.5 - 1
    expected = warped.warp_levels[0] / 127.5 - 1 + 5 / 127.5
    torch.testing.assert_close(corrected(warped, small + 5 / 127.5, WHOLE), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("label", [OUTSIDE, FILLED])
def test_beside_the_head_the_result_is_the_warp(label):
    """Whatever the networks say of a head that fills the right half; nothing leaks over the edge."""
    warped = flat(90, 200, label, side=150)
    warped.labels[..., 75:] = PHOTO
    for value in (-1.0, 1.0):
        result = corrected(warped, torch.full((3, 64, 64), value), WHOLE)
        assert torch.equal(result[..., :75], warped.warp_levels[0, ..., :75] / 127.5 - 1)
        assert (result[..., 80:] - (90 / 127.5 - 1)).abs().min() > 4 / 127.5


def test_without_trust_the_result_is_the_warp_bit_for_bit():
    warped = warped_clip(1, (150, 102))
    nothing = Trust((0.0, 10.0), dict.fromkeys(JUDGED, (0.0, 0.0)))
    picture = torch.rand(3, 64, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert torch.equal(corrected(warped, picture, nothing), warped.warp_levels[0] / 127.5 - 1)
    assert not torch.equal(corrected(warped, picture, WHOLE), warped.warp_levels[0] / 127.5 - 1)


@pytest.mark.parametrize(("turn", "levels"), [(0, 6), (5, 3), (7.5, 1.5), (10, 0), (40, 0)])
def test_trust_falls_evenly_as_the_head_turns(turn, levels):
    """White on grey skin is believed by 6 levels; at half the way from 0 to 10 degrees by half of that."""
    falling = Trust((0.0, 10.0), {PHOTO: (1.0, 0.0)})
    warped = replace(flat(128, 128, PHOTO), turn=torch.tensor([float(turn)]))
    result = corrected(warped, torch.ones(3, 64, 64), falling)
    torch.testing.assert_close(result, torch.full_like(result, GREY + levels / 127.5), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("turns", "shares", "message"),
    [((5.0, 0.0), (1.0, 1.0), "expected rising"), ((0.0, 5.0), (1.0, 1.5), "expected 2 from 0 to 1")],
)
def test_a_table_that_makes_no_sense_is_refused(turns, shares, message):
    with pytest.raises(ValueError, match=message):
        Trust(turns, {PHOTO: shares})


@pytest.mark.parametrize("seed", range(3))
def test_a_grey_network_takes_no_contrast_from_the_face(seed):
    """The mean of everything, where the warp has skin of two shades with brows, lips and noise."""
    warped = drawn_face(seed)
    grey = warped.resized((64, 64)).warp_levels[0].float().mean((1, 2)) / 127.5 - 1
    result = corrected(warped, grey[:, None, None].expand(3, 64, 64), WHOLE)
    before = warped.warp_levels[0] / 127.5 - 1
    assert 0.2 / 127.5 < (result - before).abs().mean() < 4 / 127.5
    assert 0.95 <= deviation(result).item() / deviation(before).item() <= 1.05
    ratios = deviation(result, 33) / deviation(before, 33)
    assert 0.93 <= ratios.min() and ratios.max() <= 1.05


def test_contrast_is_kept_by_the_largest_share_that_keeps_it():
    """A change of -1/2 of the picture takes half of its contrast, so 9 % of the change are left of it, and
    0.955 of the contrast."""
    picture = torch.tensor([-0.4, 0.4]).repeat(32)[None, None, None].expand(1, 3, 64, 64)
    inside = torch.ones(1, 1, 64, 64)
    assert contrast_share(-0.5 * picture, picture, inside).item() == pytest.approx(0.087, abs=1e-3)
    left = picture - 0.5 * 0.087 * picture
    assert left.std() / picture.std() == pytest.approx(0.9565, abs=1e-3)
    assert contrast_share(torch.full_like(picture, 0.1), picture, inside).item() == 1
    assert contrast_share(picture, torch.zeros_like(picture), inside).item() < 0.01


def test_colours_that_nothing_around_shows_are_not_believed():
    """A grey photo stays grey but for 1 level of colour difference, and 6 of brightness."""
    grey = torch.full((1, 3, 16, 16), GREY)
    labels = torch.full((1, 1, 16, 16), PHOTO, dtype=torch.uint8)
    bright = believed(grey + 0.5, grey, labels)
    torch.testing.assert_close(bright, grey + 6 / 127.5, rtol=0, atol=1e-5)
    orange = grey + torch.tensor([0.5, 0.0, -0.5])[None, :, None, None]
    result = believed(orange, grey, labels)
    assert (result[:, 0] - result[:, 2]).abs().max() <= 2 * 1 / 127.5 + 1e-5
    little = grey + 3 / 127.5
    assert torch.equal(believed(little, grey, labels), little)


def test_between_the_lips_teeth_may_be_as_bright_as_the_network_says():
    grey = torch.full((1, 3, 16, 16), GREY)
    labels = torch.full((1, 1, 16, 16), MOUTH, dtype=torch.uint8)
    white = torch.ones(1, 3, 16, 16)
    torch.testing.assert_close(believed(white, grey, labels), white, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("label", "levels"), [(PHOTO, (24, 6, 6)), (MIRRORED, (24, 6, 6)), (STRETCHED, (48, 48, 48))]
)
def test_skin_changes_by_so_many_levels_at_most(label, levels):
    """Beside a white spot a black skin might get white otherwise. Where the warp stretches it, the spot
    counts three pixels away."""
    warp = torch.full((1, 3, 16, 16), -1.0)
    warp[..., 8, 8] = 1
    labels = torch.full((1, 1, 16, 16), label, dtype=torch.uint8)
    result = believed(torch.ones(1, 3, 16, 16), warp, labels)
    for away, most in enumerate(levels, start=1):
        expected = torch.full((1, 3), -1 + most / 127.5)
        torch.testing.assert_close(result[..., 8, 8 - away], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(result[..., 8, 4], torch.full((1, 3), -1 + 6 / 127.5), rtol=0, atol=1e-5)


def test_enlarging_keeps_both_sides_of_an_edge_apart():
    """1 on the left, 5 on the right: no pixel of the left has anything of the right, to the very edge."""
    values = torch.ones(1, 1, 8, 8)
    values[..., 4:] = 5
    left = torch.zeros(1, 1, 8, 8)
    left[..., :4] = 1
    large = torch.zeros(1, 1, 32, 32)
    large[..., :16] = 1
    result = enlarged_within(values, left, large)
    torch.testing.assert_close(result[..., :16], torch.ones(1, 1, 32, 16), rtol=0, atol=1e-5)
    assert not result[..., 16:].any()
    assert torch.equal(enlarged_within(values, left, left), values * left)


def test_teeth_that_the_photo_shows_stay_as_they_are():
    """White above the dark inside of a mouth gets 8 levels darker at most, beside a dark cheek 24."""
    warp = torch.full((1, 3, 16, 16), -1.0)
    warp[..., :8, :] = 1
    labels = torch.full((1, 1, 16, 16), PHOTO, dtype=torch.uint8)
    labels[..., 8:, :] = MOUTH
    result = believed(torch.full((1, 3, 16, 16), -1.0), warp, labels)
    torch.testing.assert_close(result[..., 7, :], torch.full((1, 3, 16), 1 - 8 / 127.5), rtol=0, atol=1e-5)
    labels[:] = PHOTO
    result = believed(torch.full((1, 3, 16, 16), -1.0), warp, labels)
    torch.testing.assert_close(result[..., 7, :], torch.full((1, 3, 16), 1 - 24 / 127.5), rtol=0, atol=1e-5)
