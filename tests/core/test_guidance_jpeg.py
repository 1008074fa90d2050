"""Maps through JPEG files, as the released system writes them for JPEG driving frames."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from magicportrait_core.guidance import GuidanceMaps
from magicportrait_core.guidance_jpeg import as_jpeg


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(
        torch.rand(2, 7, 6, 8, generator=generator), (48, 64), mode="bicubic"
    )
    levels = (smooth.clamp(0, 1) * 255).to(torch.uint8)
    flags = torch.full((2, 1, 48, 64), 0b0101, dtype=torch.uint8)  # y of the normal is negative
    return GuidanceMaps(levels[:, :1], levels[:, 1:4], levels[:, 4:], flags)


def pillow(levels):
    file = io.BytesIO()
    Image.fromarray(levels.permute(1, 2, 0).numpy()).save(file, "JPEG")  # released: quality 75, 4:2:0
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)


def test_maps_are_what_pillow_reads_back(maps):
    saved = as_jpeg(maps)
    for frame in range(2):
        assert torch.equal(saved.render_levels[frame], pillow(maps.render_levels[frame]))
        clipped = maps.normal_levels[frame].clone()
        clipped[1] = 0
        assert torch.equal(saved.normal_levels[frame], pillow(clipped))
        grey = pillow(maps.depth_levels[frame].expand(3, -1, -1).contiguous())
        assert torch.equal(saved.depth_levels[frame], grey[:1])
    torch.testing.assert_close(saved.normal, saved.normal_levels / 255)
    assert torch.equal(saved.mask, maps.mask)
    assert 0 < (saved.render - maps.render).abs().mean() < 0.05


def test_quality_is_checked(maps):
    assert (as_jpeg(maps, 95).render - maps.render).abs().mean() < (
        as_jpeg(maps, 20).render - maps.render
    ).abs().mean()
    with pytest.raises(ValueError, match="quality=0; expected 1 to 95"):
        as_jpeg(maps, 0)
