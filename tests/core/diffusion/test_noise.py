"""Noise belongs to frame numbers."""

import numpy as np
import pytest
import torch

from magicportrait_core.diffusion.noise import frame_noise

SHAPE = (4, 8, 6)


def test_a_frame_has_its_noise_in_every_clip_chunk_and_worker():
    clip = frame_noise(7, range(40), SHAPE)
    assert clip.shape == (4, 40, 8, 6)
    assert torch.equal(frame_noise(7, range(20, 32), SHAPE), clip[:, 20:32])
    assert torch.equal(frame_noise(7, [39, 0, 1], SHAPE), clip[:, [39, 0, 1]])


def test_noise_stays_the_same_over_the_years():
    """Recorded with numpy 2.4: a change would give users other pictures for their seeds."""
    expected = torch.tensor([0.181704745, -1.242639303, -0.551553011, 0.366480023])
    torch.testing.assert_close(frame_noise(42, [0], (4, 2, 2)).flatten()[:4], expected, rtol=0, atol=1e-6)


def test_seeds_and_frames_are_never_confused():
    """Large seeds too: torch's CPU generator would take 5 and 5 + 2^32 for the same."""
    keys = [(5, 0), (0, 5), (5 + 2**32, 0), (5, 1), (2**64 - 1, 0), (2**63, 0)]
    noises = [frame_noise(seed, [frame], SHAPE) for seed, frame in keys]
    for i, a in enumerate(noises):
        for b in noises[:i]:
            assert abs(float(np.corrcoef(a.flatten(), b.flatten())[0, 1])) < 0.3


def test_noise_is_standard_normal():
    values = frame_noise(1, range(50), (4, 32, 32)).double()
    assert abs(float(values.mean())) < 0.01
    assert abs(float(values.std()) - 1) < 0.01
    assert abs(float((values**4).mean()) - 3) < 0.1


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(ValueError, match=f"seed={seed}; expected 0 to 2\\^64 - 1"):
        frame_noise(seed, [0], SHAPE)
