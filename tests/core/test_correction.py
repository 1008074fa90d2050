"""A small picture on a large warp: what is added on the head, what is mixed beside it, what is left alone."""

from dataclasses import replace

import pytest
import torch
from warped_clips import warped_clip

from magicportrait_core.correction import believed, corrected, enlarged_within, share_of
from magicportrait_core.warp.sources import FILLED, MIRRORED, MOUTH, OUTSIDE, PHOTO, STRETCHED
from magicportrait_core.warped_portrait import WarpedPortrait

GREY = 128 / 127.5 - 1


def flat(warp: int, still: int, label: int, side: int = 64) -> WarpedPortrait:
    """One frame of one colour, of one source."""
    return WarpedPortrait(
        torch.full((3, side, side), still, dtype=torch.uint8),
        torch.full((1, 3, side, side), warp, dtype=torch.uint8),
        torch.full((1, 1, side, side), label, dtype=torch.uint8),
    )


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
    torch.testing.assert_close(corrected(warped, small + 5 / 127.5), expected, rtol=0, atol=1e-5)


def test_beside_the_head_the_network_mixes_warp_and_still_portrait():
    """Warp black, still portrait white: a picture of 3/4 white is 3/4 of the way."""
    warped = flat(0, 255, OUTSIDE, side=256)
    result = corrected(warped, torch.full((3, 64, 64), 0.5))
    torch.testing.assert_close(result, torch.full_like(result, 0.5), rtol=0, atol=1e-3)


def test_beside_the_head_nothing_else_can_appear():
    """A red halo on a black warp and a white portrait: grey, of the share that red is on the way, a third."""
    warped = flat(0, 255, OUTSIDE)
    red = torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand(3, 64, 64)
    result = corrected(warped, red)
    torch.testing.assert_close(result, torch.full_like(result, -1 + 2 / 3), rtol=0, atol=1e-3)
    same = flat(90, 90, OUTSIDE)
    assert torch.equal(corrected(same, red), same.warp_levels[0] / 127.5 - 1)


def test_the_share_counts_from_the_warp_and_ends_at_the_portrait():
    black, white = torch.full((1, 3, 8, 8), -1.0), torch.full((1, 3, 8, 8), 1.0)
    for value, expected in ((-1.0, 0.0), (0.0, 0.5), (1.0, 1.0)):
        share = share_of(white, torch.full((1, 3, 8, 8), value), black)
        torch.testing.assert_close(share, torch.full((1, 1, 8, 8), expected), rtol=0, atol=1e-3)
    assert share_of(white * 0.5, white, black).max() <= 1


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


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_what_the_head_uncovers_stays_as_the_warp_filled_it(value):
    warped = flat(90, 200, FILLED, side=150)
    assert torch.equal(corrected(warped, torch.full((3, 64, 64), value)), warped.warp_levels[0] / 127.5 - 1)


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


def test_where_the_portrait_shows_the_head_it_is_no_background():
    """Left half backdrop, right half head of the portrait, all beside the head of the frame."""
    warped = flat(0, 255, OUTSIDE)
    backdrop = torch.full((1, 64, 64), 255, dtype=torch.uint8)
    backdrop[..., 32:] = 0
    result = corrected(replace(warped, backdrop=backdrop), torch.ones(3, 64, 64))
    torch.testing.assert_close(result[..., :32], torch.ones(3, 64, 32), rtol=0, atol=1e-3)
    assert torch.equal(result[..., 32:], torch.full((3, 64, 32), -1.0))
