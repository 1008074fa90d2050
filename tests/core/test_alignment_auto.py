"""Mode auto: expression since rest, openings as shares, turns within what a photo shows."""

import math
from dataclasses import replace

import pytest
import torch
from synthetic_head import ARKIT, FOCAL, synthetic_head, synthetic_track

from magicportrait_core.alignment import StructuredFaceAlignment, align, align_track, seen_rotation
from magicportrait_core.alignment.openings import NEARLY_SHUT, Openings
from magicportrait_core.alignment.rest import LARGEST_REST
from magicportrait_core.alignment.turn_limits import TurnLimits, within_photo
from magicportrait_core.head.assets import load_head
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.tracking.rotations import euler_degrees, rotation_of_euler
from magicportrait_core.tracking.track import FaceTrack

JAW, SMILE, BLINK_R, BLINK_L = (
    ARKIT.index(n) for n in ("jawOpen", "mouthSmileLeft", "eyeBlinkRight", "eyeBlinkLeft")
)


@pytest.fixture(scope="module")
def open_head():
    return load_head()


def track_of(head, expression, yaws=None):
    """A track of the open head, one metre in front of the camera, with these coefficients by name."""
    frames = len(expression)
    values = torch.zeros(frames, head.num_expression)
    for row, named in zip(values, expression, strict=True):
        for name, value in named.items():
            row[head.expression_index(name)] = value
    pose = torch.zeros(frames, 5, 3)
    pose[:, 0, 1] = torch.deg2rad(torch.tensor(yaws if yaws is not None else [0.0] * frames))
    view = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, -0.7], [0, 0, 1, -1]]).expand(frames, 3, 4)
    return FaceTrack(
        head=head.name,
        shape=torch.zeros(1, head.num_shape),
        expression=values,
        pose=pose,
        eyelids=torch.zeros(frames, 2),
        camera=Camera(view, torch.tensor([[FOCAL, 250.0, 250.0]]).expand(frames, 3), (500, 500)),
        fps=25.0,
        confidence=torch.ones(frames),
        found=torch.ones(frames, dtype=torch.bool),
        error=torch.zeros(frames),
        expression_names=head.expression_names,
    )


def openings(head, track):
    return Openings.of(head, track.shape).at(track.expression)


@pytest.mark.parametrize("arkit", [True, False], ids=["arkit", "flame_like"])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_portrait_within_its_rest_and_a_driver_at_rest_give_the_photo_bit_for_bit(arkit, frames):
    head = synthetic_head(arkit=arkit)
    portrait = synthetic_track(head, frames=1, seed=5)
    most = torch.tensor([LARGEST_REST.get("jaw")]) if arkit else torch.tensor([0.1])
    portrait = replace(
        portrait, expression=torch.minimum(portrait.expression, most), pose=portrait.pose * 0.02
    )
    driving = synthetic_track(head, frames=1, seed=6)[torch.zeros(frames, dtype=torch.long)]
    driving = replace(driving, expression=torch.minimum(driving.expression, most), pose=driving.pose * 0.02)
    still = align_track(portrait, driving, head=head if arkit else None)
    assert torch.equal(still.expression, portrait.expression.expand_as(still.expression))
    assert torch.equal(still.pose, portrait.pose.expand_as(still.pose))


def test_a_driver_who_laughs_in_every_frame_makes_the_portrait_laugh(open_head):
    laugh = {"jawOpen": 0.5, "mouthSmileLeft": 0.8, "mouthSmileRight": 0.8}
    portrait, driving = track_of(open_head, [{}]), track_of(open_head, [laugh] * 5)
    aligned = align_track(portrait, driving, head=open_head)
    smile = aligned.expression[:, open_head.expression_index("mouthSmileLeft")]
    torch.testing.assert_close(smile, torch.full((5,), 0.8 - LARGEST_REST["mouth"]))
    shown, wanted = openings(open_head, aligned)[:, 2], openings(open_head, driving)[:, 2]
    assert bool((shown > 0.9 * wanted).all())


def test_an_open_mouth_shuts_and_a_grin_goes_where_the_driver_is_at_rest(open_head):
    grin = {"jawOpen": 0.6, "mouthLowerDownLeft": 0.5, "mouthLowerDownRight": 0.5, "mouthSmileLeft": 0.9}
    portrait = track_of(open_head, [grin])
    aligned = align_track(portrait, track_of(open_head, [{}, {}]), head=open_head)
    assert float(openings(open_head, portrait)[0, 2]) > 0.015
    assert float(openings(open_head, aligned)[:, 2].max()) < 0.001
    assert float(aligned.expression[0, open_head.expression_index("mouthSmileLeft")]) <= 0.1501


def test_shut_eyes_open_and_open_eyes_shut_fully(open_head):
    shut = {"eyeBlinkLeft": 0.9, "eyeBlinkRight": 0.9}
    awake = align_track(track_of(open_head, [shut]), track_of(open_head, [{}]), head=open_head)
    rest = openings(open_head, track_of(open_head, [{}]))[0, :2]
    assert bool((openings(open_head, awake)[0, :2] > 0.9 * rest).all())
    # a driver whose calmest frame has half-shut eyes still blinks
    half = {"eyeBlinkLeft": 0.3, "eyeBlinkRight": 0.3}
    asleep = align_track(track_of(open_head, [{}]), track_of(open_head, [half, half, shut]), head=open_head)
    driver = track_of(open_head, [half, half, shut])
    share = openings(open_head, driver)[2, :2] / openings(open_head, driver)[0, :2]
    torch.testing.assert_close(openings(open_head, asleep)[2, :2], share * rest, rtol=0, atol=2e-4)


def test_uneven_lids_are_evened_and_a_wink_stays(open_head):
    portrait = track_of(open_head, [{}])
    frames = [{}] * 9 + [{"eyeBlinkLeft": 0.5, "eyeBlinkRight": 0.45}, {"eyeBlinkLeft": 1.0}]
    eyes = openings(open_head, align_track(portrait, track_of(open_head, frames), head=open_head))[:, :2]
    assert float((eyes[9, 0] - eyes[9, 1]).abs()) < 2e-4
    assert float(eyes[10, 0]) > 0.9 * float(eyes[0, 0]) and float(eyes[10, 1]) < 0.1 * float(eyes[0, 1])


def test_a_larger_eye_opens_by_the_same_share(open_head):
    driving = track_of(open_head, [{}] * 9 + [{"eyeBlinkLeft": 0.4, "eyeBlinkRight": 0.4}])
    eyes = Openings.of(open_head, driving.shape)
    slope = open_head.shape_basis  # the identity coefficient that widens the eyes most
    rests = torch.stack([Openings.of(open_head, row[None]).rest[0] for row in torch.eye(len(slope))[:20]])
    shape = torch.zeros(1, len(slope))
    shape[0, int((rests - eyes.rest[0]).argmax())] = 2.0
    portrait = replace(track_of(open_head, [{}]), shape=shape)
    assert float(Openings.of(open_head, shape).rest[0]) > 1.02 * float(eyes.rest[0])
    aligned = align_track(portrait, driving, head=open_head)
    own, driver = Openings.of(open_head, shape), openings(open_head, driving)
    shown = own.at(aligned.expression)
    share = driver[9, :2] / driver[0, :2]
    share = share * (NEARLY_SHUT + (1 - NEARLY_SHUT) * share)
    torch.testing.assert_close(shown[9, :2] / own.rest[:2], share, rtol=0, atol=0.02)


def test_own_expression_says_how_much_of_a_smile_stays():
    head = synthetic_head()
    portrait, calm = synthetic_track(head, frames=1, seed=5), synthetic_track(head, frames=2, seed=6)
    portrait = replace(portrait, expression=torch.full_like(portrait.expression, 0.2))
    calm = replace(calm, expression=torch.zeros_like(calm.expression))
    kept = [
        float(align_track(portrait, calm, StructuredFaceAlignment(own_expression=own)).expression[0, SMILE])
        for own in (0.0, 0.25, 0.5, 1.0)
    ]
    assert kept == pytest.approx([0.0, 0.075, 0.15, 0.2])
    with pytest.raises(ValueError, match="own_expression=2; expected 0"):
        StructuredFaceAlignment(own_expression=2)


def turned(track, *degrees):
    pose = torch.zeros_like(track.pose)
    pose[:, 0, 1] = torch.deg2rad(torch.tensor(degrees))
    return replace(track, pose=pose, landmarks=None)


@pytest.mark.parametrize("own", [0.0, 15.0, -15.0, 30.0, -45.0])
def test_turns_are_followed_to_half_the_limit_and_never_go_beyond_it(own):
    head = synthetic_head()
    asked = torch.linspace(-70, 70, 141)
    portrait = turned(synthetic_track(head, frames=1), own)
    driving = turned(synthetic_track(head, frames=141), *asked.tolist())
    result = align(portrait, driving, StructuredFaceAlignment(neutral_frame=70))
    change = euler_degrees(seen_rotation(result.track))[:, 0] - own
    limits = TurnLimits.of(own)
    inside = (asked > -limits.left / 2) & (asked < limits.right / 2)
    torch.testing.assert_close(change[inside], asked[inside], rtol=0, atol=0.02)
    assert float(change.max()) < limits.right + 1e-3 and float(change.min()) > -limits.left - 1e-3
    step = change.diff()
    assert bool((step > -1e-3).all()) and float(step.diff().abs().max()) < 0.3  # no stop, no pop in speed
    assert "the turn is held back in" in result.warnings[0]


def test_limits_depend_on_the_portraits_own_turn_and_on_the_direction():
    frontal, right, left = TurnLimits.of(0.0), TurnLimits.of(30.0), TurnLimits.of(-30.0)
    assert min(frontal.left, frontal.right) >= 18
    assert right.right >= 8 and right.left >= 6 and (left.left, left.right) == (right.right, right.left)
    far = TurnLimits.of(60.0)
    assert far.right >= 8 and far.left >= 6 and far.right < frontal.right


def test_turn_and_nod_together_stay_within_one_ellipse():
    both = rotation_of_euler(torch.tensor([[60.0, 50.0, 0.0], [6.0, 5.0, 4.0]]))
    turn = within_photo(torch.eye(3), both)
    change = euler_degrees(turn.rotation)
    size = (change[:, 0] / turn.limits.right).square() + (change[:, 1] / turn.limits.pitch).square()
    assert float(size[0]) < 1
    assert torch.equal(turn.rotation[1], both[1])


def test_a_turned_portrait_keeps_its_own_pose_under_a_frontal_driver():
    head = synthetic_head()
    portrait = turned(synthetic_track(head, frames=1), 35.0)
    driving = turned(synthetic_track(head, frames=3), 0.0, 2.0, -2.0)
    yaw = euler_degrees(seen_rotation(align_track(portrait, driving)))[:, 0]
    torch.testing.assert_close(yaw - yaw[0], torch.tensor([0.0, 2.0, -2.0]), rtol=0, atol=0.02)
    assert float(yaw[0]) == pytest.approx(35.0, abs=2.1)


@pytest.mark.parametrize("mode", ["absolute", "relative", "auto"])
def test_a_face_that_slides_across_the_picture_does_not_turn_the_portrait(mode):
    """The same view of a face at several places, as trackers of older versions saw it: turned in space by
    the angle at which it stands from the camera's axis."""
    head = synthetic_head()
    angles = (-30.0, -10.0, 0.0, 20.0)
    still = turned(synthetic_track(head, frames=4), *angles)
    middle = torch.tensor([[250.0 - FOCAL * math.tan(math.radians(a)), 250.0, 0.0] for a in angles])
    driving = replace(still, landmarks=middle[:, None].expand(4, 478, 3))
    portrait = turned(synthetic_track(head, frames=1), 5.0)
    result = align_track(portrait, driving, StructuredFaceAlignment(mode=mode, neutral_frame=2))
    yaw = euler_degrees(seen_rotation(result))[:, 0]
    expected = 0.0 if mode == "absolute" else 5.0
    torch.testing.assert_close(yaw, torch.full((4,), expected), rtol=0, atol=0.01)


def test_a_portrait_beside_the_middle_keeps_its_angle_to_the_line_of_sight():
    head = synthetic_head()
    portrait = turned(synthetic_track(head, frames=1), 20.0)
    aside = torch.tensor([250.0 - FOCAL * math.tan(math.radians(20.0)), 250.0, 0.0])
    portrait = replace(portrait, landmarks=aside.expand(1, 478, 3))
    assert euler_degrees(seen_rotation(portrait))[0].abs().max() < 0.01
    driving = turned(synthetic_track(head, frames=2), 0.0, 10.0)
    aligned = align_track(portrait, driving, StructuredFaceAlignment(neutral_frame=0))
    torch.testing.assert_close(aligned.pose[0], portrait.pose[0])  # the still frame
    turn = euler_degrees(aligned.camera.view[..., :3] @ rotations(aligned))
    torch.testing.assert_close(turn[:, 0], torch.tensor([20.0, 30.0]), rtol=0, atol=0.05)


def rotations(track):
    from magicportrait_core.head.skinning import axis_angle_to_matrix

    turn = axis_angle_to_matrix(track.pose[:, :2])
    return turn[:, 0] @ turn[:, 1]


def test_frames_without_a_face_take_the_line_of_sight_of_their_neighbours():
    head = synthetic_head()
    track = turned(synthetic_track(head, frames=3), 0.0, 0.0, 0.0)
    places = torch.tensor([[250.0, 250, 0], [math.nan] * 3, [350.0, 250, 0]])
    track = replace(track, landmarks=places[:, None].expand(3, 478, 3))
    yaw = euler_degrees(seen_rotation(track))[:, 0]
    expected = torch.rad2deg(torch.atan(torch.tensor([0.0, 50.0, 100.0]) / FOCAL))
    torch.testing.assert_close(yaw, expected, rtol=0, atol=0.01)
