import math
from dataclasses import replace

import pytest
import torch
from synthetic_head import ARKIT, synthetic_head, synthetic_track

from magicportrait_core.alignment import (
    StructuredFaceAlignment,
    align,
    align_track,
    head_rotation,
    neutral_frame,
)
from magicportrait_core.expression_groups import GROUPS, group_of
from magicportrait_core.head.skinning import axis_angle_to_matrix
from magicportrait_core.tracking.rotations import euler_degrees

OPTIONS = [
    StructuredFaceAlignment(mode=mode, carry=carry, follow_place=follow)
    for mode in ("absolute", "relative", "auto")
    for carry in ("neck", "whole")
    for follow in (0.0, 1.0)
]
JAW, SMILE, BROW, BLINK, GAZE = (
    ARKIT.index(n) for n in ("jawOpen", "mouthSmileLeft", "browInnerUp", "eyeBlinkLeft", "eyeLookUpLeft")
)


@pytest.fixture(params=[True, False], ids=["arkit", "flame_like"])
def pair(request):
    """Tracks without landmarks: their faces are taken to stand in the camera's axis."""
    head = synthetic_head(arkit=request.param)
    portrait = replace(synthetic_track(head, frames=1, seed=5), fps=0.0, landmarks=None)
    return portrait, replace(synthetic_track(head, frames=4, seed=6), landmarks=None)


def turned(track, *degrees):
    """The track with head rotations about the vertical axis."""
    pose = torch.zeros_like(track.pose)
    pose[:, 0, 1] = torch.deg2rad(torch.tensor(degrees))
    return replace(track, pose=pose)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_strength_is_the_still_portrait_bit_for_bit(pair, options):
    portrait, driving = pair
    still = align_track(portrait, driving, replace(options, strength=0.0))
    for name in ("expression", "pose", "eyelids"):
        assert torch.equal(getattr(still, name), getattr(portrait, name).expand_as(getattr(still, name))), (
            name
        )
    assert torch.equal(still.shape, portrait.shape)
    assert torch.equal(still.camera.view, portrait.camera.view.expand(4, 3, 4))
    assert torch.equal(still.camera.intrinsics, portrait.camera.intrinsics.expand(4, 3))
    assert still.num_frames == 4 and still.fps == driving.fps


def test_every_group_at_zero_is_the_same_as_no_strength(pair):
    portrait, driving = pair
    off = StructuredFaceAlignment(head=0, jaw=0, mouth=0, brows=0, lids=0, gaze=0)
    still = align_track(portrait, driving, off)
    assert torch.equal(still.pose, portrait.pose.expand_as(still.pose))
    assert torch.equal(still.expression, portrait.expression.expand_as(still.expression))


def test_absolute_is_the_papers_rule(pair):
    """Shape, camera and codes of the portrait; expression, jaw and head rotation of the driver."""
    portrait, driving = pair
    portrait = replace(portrait, texture=torch.randn(1, 50), light=torch.randn(1, 9, 3))
    for carry in ("neck", "whole"):
        aligned = align_track(portrait, driving, StructuredFaceAlignment(mode="absolute", carry=carry))
        assert torch.equal(aligned.shape, portrait.shape) and torch.equal(aligned.texture, portrait.texture)
        assert torch.equal(aligned.camera.view, portrait.camera.view.expand(4, 3, 4))
        assert torch.equal(aligned.expression, driving.expression)
        assert torch.equal(aligned.pose[:, 2:], driving.pose[:, 2:])
        torch.testing.assert_close(head_rotation(aligned), head_rotation(driving), rtol=0, atol=1e-5)


def test_neck_leaves_the_shoulders_and_whole_leaves_the_neck(pair):
    portrait, driving = pair
    neck = align_track(portrait, driving, StructuredFaceAlignment(mode="absolute", carry="neck"))
    whole = align_track(portrait, driving, StructuredFaceAlignment(mode="absolute", carry="whole"))
    assert torch.equal(neck.pose[:, 0], portrait.pose[:, 0].expand(4, 3))
    assert torch.equal(whole.pose[:, 1], portrait.pose[:, 1].expand(4, 3))
    torch.testing.assert_close(head_rotation(neck), head_rotation(whole), rtol=0, atol=1e-5)
    auto = align_track(portrait, driving, StructuredFaceAlignment(mode="absolute"))
    assert torch.equal(auto.pose, (neck if "jawOpen" in portrait.expression_names else whole).pose)


def test_relative_adds_the_change_since_the_neutral_frame(pair):
    portrait, driving = pair
    portrait, driving = turned(portrait, 10.0), turned(driving, -5.0, 0.0, 7.0, 20.0)
    options = StructuredFaceAlignment(mode="relative", neutral_frame=2)
    aligned = align_track(portrait, driving, options)
    yaw = euler_degrees(head_rotation(aligned))[:, 0]
    torch.testing.assert_close(yaw, torch.tensor([-2.0, 3.0, 10.0, 23.0]), rtol=0, atol=1e-3)
    change = driving.expression - driving.expression[2]
    expected = portrait.expression + change
    if portrait.expression_names[0] == ARKIT[0]:
        expected = expected.clamp(0, 1)
    torch.testing.assert_close(aligned.expression, expected)
    torch.testing.assert_close(aligned.expression[2], portrait.expression[0])


def test_a_half_turn_halved_is_a_quarter_turn(pair):
    portrait, driving = pair
    portrait, driving = turned(portrait, 0.0), turned(driving, 0.0, 60.0, 120.0, 180.0 - 1e-2)
    for mode in ("absolute", "relative"):
        options = StructuredFaceAlignment(mode=mode, head=0.5, neutral_frame=0)
        rotation = head_rotation(align_track(portrait, driving, options))
        expected = axis_angle_to_matrix(torch.tensor([0.0, math.pi / 2, 0.0]))
        torch.testing.assert_close(rotation[3], expected, rtol=0, atol=1e-3)


def test_each_group_moves_its_own_coefficients_only():
    head = synthetic_head()
    portrait, driving = synthetic_track(head, frames=1, seed=5), synthetic_track(head, frames=3, seed=6)
    members = {"jaw": JAW, "mouth": SMILE, "brows": BROW, "lids": BLINK, "gaze": GAZE}
    for group, index in members.items():
        only = {name: float(name == group) for name in GROUPS}
        aligned = align_track(portrait, driving, StructuredFaceAlignment(mode="absolute", head=0, **only))
        moved = (aligned.expression != portrait.expression).any(0)
        assert moved[index] and torch.equal(aligned.expression[:, index], driving.expression[:, index])
        assert all(group_of(name) == group for name, m in zip(ARKIT, moved.tolist(), strict=True) if m)


def test_every_arkit_name_has_a_group():
    counts = {g: sum(group_of(n) == g for n in (*ARKIT, "tongueOut")) for g in GROUPS}
    assert counts == {"jaw": 5, "mouth": 28, "brows": 5, "lids": 6, "gaze": 8}


def test_groups_of_unnamed_expressions_cannot_be_told_apart():
    head = synthetic_head(arkit=False)
    portrait, driving = synthetic_track(head, frames=1), synthetic_track(head, frames=2, seed=3)
    with pytest.raises(ValueError, match="head 'synthetic_flame' does not name its expressions"):
        align_track(portrait, driving, StructuredFaceAlignment(brows=0.5))
    options = StructuredFaceAlignment(mode="absolute", mouth=0, brows=0, lids=0, jaw=1)
    aligned = align_track(portrait, driving, options)
    assert torch.equal(aligned.expression, portrait.expression.expand(2, -1))
    assert torch.equal(aligned.pose[:, 2], driving.pose[:, 2])


def test_the_neutral_frame_is_the_calmest_that_looks_like_the_portrait(pair):
    portrait, driving = pair
    driving = turned(replace(driving, expression=driving.expression * 0), 30.0, 3.0, 0.0, 0.0)
    expression = driving.expression.clone()
    expression[2:, 3] = 1.5
    driving = replace(driving, expression=expression)
    assert neutral_frame(turned(portrait, 0.0), driving) == 1
    assert align(turned(portrait, 0.0), driving).neutral_frame == 1
    lost = replace(driving, found=torch.tensor([True, False, True, True]))
    assert neutral_frame(turned(portrait, 0.0), lost) != 1


def test_limits_lead_the_head_back_towards_the_portrait(pair):
    portrait, driving = pair
    portrait, driving = turned(portrait, 0.0), turned(driving, 10.0, 40.0, 60.0, 80.0)
    options = StructuredFaceAlignment(mode="absolute", max_yaw=50)
    result = align(portrait, driving, options)
    yaw = euler_degrees(head_rotation(result.track))[:, 0]
    torch.testing.assert_close(yaw, torch.tensor([10.0, 40.0, 50.0, 50.0]), rtol=0, atol=0.01)
    assert "head rotation was limited in 2 of 4 frames" in result.warnings
    yaw = euler_degrees(head_rotation(align_track(portrait, driving, replace(options, max_change=25))))[:, 0]
    torch.testing.assert_close(yaw, torch.tensor([10.0, 25.0, 25.0, 25.0]), rtol=0, atol=0.01)


def test_motion_that_a_portrait_can_hardly_show_is_pointed_out(pair):
    portrait, driving = pair
    result = align(
        turned(portrait, 0.0), turned(driving, 0.0, 30.0, 60.0, 70.0), StructuredFaceAlignment("absolute")
    )
    assert any(
        "up to 70 degrees from the viewer (more than 50 in 2 of 4 frames)" in w for w in result.warnings
    )
    assert any(
        "up to 70 degrees away from the portrait (more than 25 in 3 of 4" in w for w in result.warnings
    )
    calm = align(
        turned(portrait, 0.0), turned(driving, 0.0, 1.0, 2.0, 3.0), StructuredFaceAlignment("absolute")
    )
    assert calm.warnings == ()


def test_the_drivers_moves_are_dropped_or_followed(pair):
    portrait, driving = pair
    stay = align_track(portrait, driving, StructuredFaceAlignment(neutral_frame=0))
    assert torch.equal(stay.camera.view, portrait.camera.view.expand(4, 3, 4))
    view = driving.camera.view.clone()
    view[:, :, 3] = torch.tensor([[0.0, 0, -1.0], [0.1, 0, -1.0], [0.0, 0.2, -1.0], [0, 0, -0.5]])
    driving = replace(driving, camera=replace(driving.camera, view=view))
    follow = align_track(portrait, driving, StructuredFaceAlignment(neutral_frame=0, follow_place=1))
    place, own = follow.camera.places(), portrait.camera.view[0, :, 3]
    torch.testing.assert_close(place[1] - own, torch.tensor([0.1, 0.0, 0.0]))
    torch.testing.assert_close(place[2] - own, torch.tensor([0.0, 0.2, 0.0]))
    assert place[3, 2].item() == pytest.approx(own[2].item() / 2)  # twice as near: twice as large


def test_sentences(pair):
    portrait, driving = pair
    with pytest.raises(ValueError, match="portrait's track has 4 frames; expected one picture"):
        align_track(driving, driving)
    with pytest.raises(ValueError, match="tracked with head 'other' and the driving video with"):
        align_track(replace(portrait, head="other"), driving)
    with pytest.raises(ValueError, match="neutral_frame=9, but the driving track has frames 0 to 3"):
        align_track(portrait, driving, StructuredFaceAlignment(neutral_frame=9))
    empty = replace(driving, pose=driving.pose.clone().index_fill_(0, torch.tensor([1]), torch.nan))
    with pytest.raises(ValueError, match="the driving track has frames without a face; fill them first"):
        align_track(portrait, empty)
    with pytest.raises(ValueError, match="strength mouth=-1; expected 0"):
        StructuredFaceAlignment(mouth=-1)
    with pytest.raises(ValueError, match="mode='x'; expected absolute, relative or auto"):
        StructuredFaceAlignment(mode="x")


def test_runs_under_inference_mode(pair):
    with torch.inference_mode():
        portrait, driving = (replace(t, pose=t.pose.clone()) for t in pair)
        assert align_track(portrait, driving).complete
