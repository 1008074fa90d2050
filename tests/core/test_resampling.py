"""Pictures and labels at the working size."""

import torch
from PIL import Image

from magicportrait_core.media.image import from_levels
from magicportrait_core.reference import resize_portrait
from magicportrait_core.resampling import resized_labels, resized_levels
from magicportrait_core.warped_portrait import WarpedPortrait


def test_a_label_is_that_of_the_pixels_centre():
    labels = torch.arange(12, dtype=torch.uint8).view(1, 1, 1, 12).expand(1, 1, 3, 12)
    # A third of the size: centres at 1, 4, 7, 10. Two thirds: at 0.25, 1.75, 3.25, ...
    assert resized_labels(labels, (1, 4)).flatten().tolist() == [1, 4, 7, 10]
    assert resized_labels(labels, (2, 8))[0, 0, 0].tolist() == [0, 2, 3, 5, 6, 8, 9, 11]
    assert resized_labels(labels, (6, 24))[0, 0, 0].tolist() == [i // 2 for i in range(24)]


def test_flat_pictures_stay_and_those_of_the_size_are_returned():
    levels = torch.full((2, 3, 40, 30), 77, dtype=torch.uint8)
    assert resized_levels(levels, (40, 30)) is levels
    small = resized_levels(levels, (16, 12))
    assert small.shape == (2, 3, 16, 12) and small.unique().tolist() == [77]


def test_a_warped_portrait_is_resized_as_its_parts_are():
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (3, 3, 48, 64), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 6, (2, 1, 48, 64), dtype=torch.uint8, generator=generator)
    small = WarpedPortrait(levels[0], levels[1:], labels, torch.tensor([0.0, 9.0])).resized((24, 32))
    assert small.turn.tolist() == [0, 9]
    still = resize_portrait(from_levels(levels[0].movedim(0, -1)), (24, 32))  # Lanczos, as for AppearanceNet
    assert torch.equal(small.portrait / 127.5 - 1, still)
    picture = Image.fromarray(levels[2].movedim(0, -1).contiguous().numpy()).resize((32, 24), Image.BICUBIC)
    assert small.warp_levels[1].movedim(0, -1).flatten().tolist() == list(picture.tobytes())
    assert small.labels.unique().tolist() == list(range(6)) and small.size == (24, 32)
