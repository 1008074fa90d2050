import pytest
import torch

from magicportrait_core.models.config import SD15
from magicportrait_core.reference import (
    check_same_aspect,
    map_size,
    resize_portrait,
    undistorted_size,
    working_size,
)


@pytest.mark.parametrize(
    ("portrait", "shorter", "expected"),
    [
        ((512, 512), None, (512, 512)),
        ((2000, 2000), None, (512, 512)),
        ((200, 200), None, (512, 512)),  # small pictures are enlarged, the networks were trained at 512
        ((1500, 1000), None, (768, 512)),
        ((1000, 1500), None, (512, 768)),
        ((1000, 750), None, (704, 512)),  # 10.67 cells of 64 pixels round to 11
        ((1000, 750), 768, (1024, 768)),
        ((512, 512), 64, (64, 64)),
    ],
)
def test_the_working_size_keeps_the_aspect_in_multiples_of_64(portrait, shorter, expected):
    assert working_size(portrait, SD15, shorter) == expected


@pytest.mark.parametrize("shorter", [0, 63, 4097])
def test_a_working_size_out_of_range_is_refused(shorter):
    with pytest.raises(ValueError, match=f"size={shorter}; expected a shorter side of 64 to 4096"):
        working_size((512, 512), SD15, shorter)


def test_a_strip_is_refused():
    with pytest.raises(ValueError, match="portrait of 9000x100 would be sampled 46080 pixels long"):
        working_size((100, 9000), SD15)


def test_maps_are_rendered_at_the_working_size_where_the_camera_only_has_to_scale():
    assert map_size((2000, 2000), (512, 512)) == (512, 512)
    assert map_size((1000, 750), (704, 512)) == (683, 512)
    assert map_size((750, 1000), (512, 704)) == (512, 683)


def test_frames_get_the_portraits_aspect_back_in_even_sizes():
    assert undistorted_size((1000, 750), (704, 512)) == (682, 512)
    assert undistorted_size((512, 512), (512, 512)) == (512, 512)


def test_a_portrait_of_the_working_size_is_left_alone_and_flat_colours_stay():
    portrait = torch.rand(3, 64, 128) * 2 - 1
    assert torch.equal(resize_portrait(portrait, (64, 128)), portrait)
    grey = torch.full((3, 90, 70), 51 / 127.5 - 1)
    torch.testing.assert_close(resize_portrait(grey, (128, 64)), torch.full((3, 128, 64), 51 / 127.5 - 1))


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 8, 8), (8, 8, 3)])
def test_something_else_than_one_picture_is_refused(shape):
    with pytest.raises(ValueError, match="expected one picture"):
        resize_portrait(torch.zeros(shape), (64, 64))


def test_a_portrait_with_nan_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        resize_portrait(torch.full((3, 8, 8), torch.nan), (64, 64))


def test_guidance_of_another_aspect_is_refused_and_named():
    check_same_aspect((1000, 750), (683, 512), slack=2)
    check_same_aspect((750, 1000), (512, 683), slack=2)
    with pytest.raises(ValueError, match="guidance is 512x512 and the portrait 750x1000 pixels"):
        check_same_aspect((1000, 750), (512, 512), slack=2)
