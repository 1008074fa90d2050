"""Temporal aggregation: segments become one timeline."""

from dataclasses import replace

import pytest
import torch

from magicportrait_core.diffusion.aggregation import merge_segments
from magicportrait_core.diffusion.segments import PortraitSegments
from magicportrait_core.diffusion.windows import plan_windows


def segments(values, num_frames, **changes):
    """Segments that hold one number each: {frames: number}."""
    latents = tuple(torch.full((1, len(frames), 1, 1), float(value)) for frames, value in values.items())
    return replace(PortraitSegments(latents, tuple(values), num_frames, 0.2, "render"), **changes)


def merged(*parts, **options):
    return merge_segments(parts, **options)[0, :, 0, 0].tolist()


def test_overlaps_fade_linearly():
    """Three shared frames: a quarter, a half, three quarters of the way."""
    clip = segments({(0, 1, 2, 3, 4, 5): 0, (3, 4, 5, 6, 7, 8): 8}, 9)
    assert merged(clip) == [0, 0, 0, 2, 4, 6, 8, 8, 8]


def test_mean_takes_the_middle():
    clip = segments({(0, 1, 2, 3, 4, 5): 0, (3, 4, 5, 6, 7, 8): 8}, 9)
    assert merged(clip, blend="mean") == [0, 0, 0, 4, 4, 4, 8, 8, 8]


def test_windows_that_pass_the_end_fade_over_the_seam():
    clip = segments({(0, 1, 2, 3): 0, (3, 4, 5, 0): 8}, 6)
    assert merged(clip) == [4, 0, 0, 4, 8, 8]


@pytest.mark.parametrize("plan", ["open", "loop", "released"])
@pytest.mark.parametrize("overlap", [0, 1, 4, 9])
@pytest.mark.parametrize("blend", ["linear", "mean"])
def test_windows_that_agree_are_left_as_they_are_bit_for_bit(plan, overlap, blend):
    torch.manual_seed(0)
    clip = torch.randn(4, 50, 3, 2)
    windows = plan_windows(50, 12, overlap, plan)
    part = PortraitSegments(tuple(clip[:, list(w)] for w in windows), windows, 50, 0.2)
    assert torch.equal(merge_segments([part], blend), clip)


@pytest.mark.parametrize("blend", ["linear", "mean"])
def test_neither_order_nor_sharing_changes_a_bit(blend):
    torch.manual_seed(0)
    windows = plan_windows(50, 12, 7)
    latents = tuple(torch.randn(4, 12, 3, 2) for _ in windows)
    one = PortraitSegments(latents, windows, 50, 0.2)
    odd = PortraitSegments(latents[1::2], windows[1::2], 50, 0.2)
    even = PortraitSegments(latents[::2], windows[::2], 50, 0.2)
    expected = merge_segments([one], blend)
    assert torch.equal(merge_segments([odd, even], blend), expected)
    assert torch.equal(merge_segments([even, odd], blend), expected)


def test_a_frame_in_many_segments_is_between_them():
    torch.manual_seed(0)
    windows = plan_windows(40, 12, 9)
    latents = tuple(torch.rand(1, 12, 1, 1) for _ in windows)
    values = merge_segments([PortraitSegments(latents, windows, 40, 0.2)])[0, :, 0, 0]
    for frame in range(40):
        own = [x[0, w.index(frame)] for x, w in zip(latents, windows, strict=True) if frame in w]
        assert min(own) - 1e-6 <= values[frame] <= max(own) + 1e-6


def test_missing_frames_are_named():
    with pytest.raises(ValueError, match=r"no segment holds frames 0, 4-6, 9 of the clip's 10 frames"):
        merged(segments({(1, 2, 3): 0, (7, 8): 0}, 10))
    with pytest.raises(ValueError, match="no segment holds frame 2 of"):
        merged(segments({(0, 1): 0}, 3))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (segments({(2, 3): 0}, 5), "segments 2 differ from segments 1 in their clip length: 5 instead of 4"),
        (segments({(2, 3): 0}, 4, latent_scale=0.3), "in their latent scale: 0.3 instead of 0.2"),
        (segments({(2, 3): 0}, 4, render="another"), "in their render: another instead of render"),
        (
            PortraitSegments((torch.zeros(1, 2, 1, 3),), ((2, 3),), 4, 0.2, "render"),
            r"size in latent cells: \(1, 3\) instead of \(1, 1\)",
        ),
        (
            PortraitSegments((torch.zeros(4, 2, 1, 1),), ((2, 3),), 4, 0.2, "render"),
            "number of channels: 4 instead of 1",
        ),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(other, message):
    with pytest.raises(ValueError, match=message):
        merge_segments([segments({(0, 1): 0}, 4), other])


def test_nothing_to_merge_and_unknown_blends_are_refused():
    with pytest.raises(ValueError, match="no segments to merge"):
        merge_segments([])
    with pytest.raises(ValueError, match="blend='cubic'; expected one of linear, mean"):
        merge_segments([segments({(0,): 0}, 1)], "cubic")


@pytest.mark.parametrize("second", [(4, 3, 3, 2), (4, 2, 3, 1), (3, 2, 3, 2), (2, 3, 2)])
def test_segments_of_one_clip_have_one_size(second):
    latents = (torch.zeros(4, 2, 3, 2), torch.zeros(second))
    with pytest.raises(ValueError, match="a segment of 2 frames has latents"):
        PortraitSegments(latents, ((0, 1), (1, 2)), 3, 0.2)
