from dataclasses import replace

import pytest
import torch
from synthetic_head import ARKIT, synthetic_head, synthetic_track

from magicportrait_core.tracking.smoothing import SmoothingOptions, smooth

BLINK, GAZE = ARKIT.index("eyeBlinkLeft"), ARKIT.index("eyeLookUpLeft")
RAW = SmoothingOptions(head=0, expression=0, gaze=0)


@pytest.fixture(scope="module")
def still():
    """60 equal frames at 25 fps."""
    return synthetic_track(synthetic_head(), frames=1)[torch.zeros(60, dtype=torch.int64)]


def jitter(values):
    return values.diff(n=2, dim=0).abs().mean()


def noisy(track, amount=0.02):
    noise = torch.randn(track.expression.shape, generator=torch.Generator().manual_seed(0))
    return replace(track, expression=(track.expression + amount * noise).clamp(0, 1))


def test_zero_leaves_every_bit(still):
    track = noisy(still)
    assert smooth(track, RAW) is track
    only_head = smooth(track, SmoothingOptions(head=1, expression=0, gaze=0))
    assert torch.equal(only_head.expression, track.expression)


def test_a_still_face_stays_still(still):
    smoothed = smooth(still, SmoothingOptions(1, 1, 1))
    assert torch.equal(smoothed.expression, still.expression)
    torch.testing.assert_close(smoothed.pose, still.pose, rtol=0, atol=1e-6)
    assert torch.equal(smoothed.camera.view, still.camera.view)


def test_jitter_is_averaged_away(still):
    track = noisy(still)
    assert jitter(smooth(track, SmoothingOptions(0, 1, 1)).expression) < 0.35 * jitter(track.expression)


def test_the_peak_of_a_blink_stays_in_place_and_within_ten_percent(still):
    expression = still.expression.clone()
    expression[:, BLINK] = 0.05
    expression[29:34, BLINK] = torch.tensor([0.4, 0.85, 0.95, 0.7, 0.3])
    track = noisy(replace(still, expression=expression))
    blink = smooth(track, SmoothingOptions(0, 1, 0)).expression[:, BLINK]
    assert blink.argmax() == track.expression[:, BLINK].argmax()
    assert blink.max() > 0.9 * track.expression[:, BLINK].max()


def test_motion_is_not_delayed(still):
    """A symmetric bump keeps its symmetry: the filter has no phase."""
    expression = still.expression.clone()
    time = torch.arange(60) - 30
    expression[:, 0] = 0.5 * torch.exp(-0.5 * (time / 6.0) ** 2)
    bump = smooth(replace(still, expression=expression), SmoothingOptions(0, 1, 0)).expression[1:, 0]
    torch.testing.assert_close(bump, bump.flip(0), rtol=0, atol=1e-5)


def test_gaze_has_its_own_strength(still):
    track = noisy(still)
    smoothed = smooth(track, SmoothingOptions(head=0, expression=1, gaze=0))
    assert torch.equal(smoothed.expression[:, GAZE], track.expression[:, GAZE])
    assert not torch.equal(smoothed.expression[:, BLINK], track.expression[:, BLINK])
    smoothed = smooth(track, SmoothingOptions(head=0, expression=0, gaze=1))
    assert torch.equal(smoothed.expression[:, BLINK], track.expression[:, BLINK])
    assert not torch.equal(smoothed.expression[:, GAZE], track.expression[:, GAZE])


def test_a_shaking_head_becomes_calm_and_a_cut_stays_a_cut(still):
    generator = torch.Generator().manual_seed(0)
    pose = still.pose.clone()
    pose[:, 0] += 0.005 * torch.randn(60, 3, generator=generator)
    pose[30:, 0, 1] += 1.0
    smoothed = smooth(replace(still, pose=pose), SmoothingOptions(1, 0, 0))
    assert jitter(smoothed.pose[:30, 0]) < 0.4 * jitter(pose[:30, 0])
    step = smoothed.pose[30, 0, 1] - smoothed.pose[29, 0, 1]
    assert step.item() == pytest.approx((pose[30, 0, 1] - pose[29, 0, 1]).item(), abs=0.03)


def test_pictures_and_unknown_strengths(still):
    assert smooth(still[0], SmoothingOptions(1, 1, 1)).num_frames == 1
    with pytest.raises(ValueError, match="smoothing head=-1; expected 0"):
        SmoothingOptions(head=-1)
