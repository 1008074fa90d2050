"""People told apart in one matte."""

import torch

from magicportrait_core.matting.people import own_share


def discs(
    *centres: tuple[float, float], radius: float = 14, size: tuple[int, int] = (60, 100)
) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    near = [((x - cx) ** 2 + (y - cy) ** 2).sqrt() < radius for cx, cy in centres]
    return torch.stack(near).any(0)


def box(x: float, y: float) -> tuple[float, float, float, float]:
    return (x - 6, y - 6, x + 6, y + 6)


def test_what_does_not_hang_together_with_the_head_is_not_the_persons():
    matte = discs((25, 30), (75, 30)).float()[None]
    share = own_share(torch.zeros(3, 60, 100), matte, discs((25, 30), radius=6), [])
    assert torch.equal(share[0, 30, :50].round(), torch.tensor([0.0] * 11 + [1.0] * 28 + [0.0] * 11)) or (
        share[0, 30, 12:38].min() == 1
    )
    assert share[0, :, 55:].max() == 0


def test_people_who_touch_are_cut_in_the_middle():
    matte = discs((36, 30), (64, 30)).float()[None]  # they overlap from x = 50 - 0 to 50 + 0
    matte[:, 20:40, 40:60] = 1
    share = own_share(torch.zeros(3, 60, 100), matte, discs((36, 30), radius=6), [box(64, 30)])
    assert share[0, 30, 25:46].min() == 1
    assert share[0, 30, 54:78].max() == 0


def test_a_change_of_colour_is_a_better_place_to_cut():
    matte = torch.zeros(1, 60, 100)
    matte[:, 15:45, 20:80] = 1
    picture = -torch.ones(3, 60, 100)
    picture[:, :, 42:] = 1  # this person ends at column 42, nearer to his own head
    share = own_share(picture, matte, discs((30, 30), radius=6), [box(70, 30)])
    assert share[0, 30, 22:41].min() == 1
    assert share[0, 30, 43:80].max() == 0
