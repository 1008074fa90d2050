import pytest
import torch

from magicportrait_core.warp.fill import blur, harmonic, pixel_centres, pull_push, resize, sample, smoothstep


@pytest.mark.parametrize("size", [(64, 64), (37, 53), (5, 3), (1, 1)])
def test_a_fill_equals_its_input_where_that_is_known(size):
    torch.manual_seed(0)
    values = torch.randn(1, 2, *size)
    known = (torch.rand(1, 1, *size) > 0.6).float()
    known[..., 0, 0] = 1
    filled = pull_push(values, known)
    torch.testing.assert_close(filled * known, values * known)
    assert filled.isfinite().all()


def test_a_fill_stays_within_the_range_of_what_is_known():
    torch.manual_seed(0)
    values = torch.rand(1, 1, 48, 40)
    filled = pull_push(values, (torch.rand(1, 1, 48, 40) > 0.97).float())
    assert filled.min() >= 0 and filled.max() <= 1.0001


def test_a_fill_of_a_constant_is_that_constant():
    known = torch.zeros(1, 1, 33, 21)
    known[..., 4, 7] = 1
    torch.testing.assert_close(
        pull_push(torch.full((1, 1, 33, 21), 0.7), known), torch.full((1, 1, 33, 21), 0.7)
    )


def test_a_harmonic_fill_of_a_linear_field_is_that_field():
    """A hole inside a linear ramp: the harmonic extension is the ramp itself."""
    x, y = pixel_centres((64, 64), torch.zeros(1))
    ramp = (0.5 * x - 0.25 * y)[None, None]
    known = torch.ones(1, 1, 64, 64)
    known[..., 24:40, 20:44] = 0
    settled = harmonic(ramp * known, known, reduction=1, smoothing=300)
    assert (settled - ramp).abs().max() < 0.3  # of 12 across the hole; the finest level is not swept
    quick = harmonic(ramp * known, known)
    assert (quick - ramp).abs().max() < 1.0


def test_nothing_known_gives_zero_and_no_nan():
    assert (pull_push(torch.randn(1, 3, 20, 20), torch.zeros(1, 1, 20, 20)) == 0).all()


def test_sampling_at_pixel_centres_returns_the_picture():
    picture = torch.rand(3, 9, 14)
    for mode in ("bilinear", "bicubic"):
        torch.testing.assert_close(sample(picture, pixel_centres((9, 14), picture), mode), picture)


def test_blur_keeps_constants_and_the_mean_of_an_impulse():
    torch.testing.assert_close(blur(torch.ones(1, 1, 9, 9), 1.3), torch.ones(1, 1, 9, 9))
    impulse = torch.zeros(1, 1, 31, 31)
    impulse[..., 15, 15] = 1
    torch.testing.assert_close(blur(impulse, 2.0).sum(), torch.tensor(1.0))


def test_magnified_cells_line_up_with_their_pixels():
    """A ramp of cell means, magnified, is the ramp of the pixels (away from the edge)."""
    x, _ = pixel_centres((8, 32), torch.zeros(1))
    cells = torch.nn.functional.avg_pool2d(x[None, None], 4)
    torch.testing.assert_close(resize(cells, 4, (8, 32))[..., 2:-2], x[None, None][..., 2:-2])


def test_smoothstep_is_zero_half_and_one():
    torch.testing.assert_close(
        smoothstep(1.0, 3.0, torch.tensor([0.0, 2.0, 4.0])), torch.tensor([0.0, 0.5, 1.0])
    )
