"""Where the face is in the picture is no turn of the head, and equal pictures have equal tracks."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from magicportrait_core.alignment import StructuredFaceAlignment, align_track, head_rotation
from magicportrait_core.head.assets import load_head
from magicportrait_core.media.image import resize
from magicportrait_core.tracking.fitting import fit_track
from magicportrait_core.tracking.following import follow_face
from magicportrait_core.tracking.glimpse import Glimpse
from magicportrait_core.tracking.rotations import euler_degrees
from magicportrait_core.tracking.track_file import load_track, save_track
from magicportrait_core.tracking.tracker import track_face, track_portrait

HEIGHT, WIDTH, SIDE = 200, 600, 160
MIDDLE = (WIDTH - SIDE) // 2


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def face(astronaut) -> Tensor:
    return resize(astronaut[:, 0:270, 90:360], (SIDE, SIDE))


def pasted(face: Tensor, left: int, top: int = 20) -> Tensor:
    """The face in a picture three times as wide as high; what lies beyond the border is cut off."""
    picture = torch.full((3, HEIGHT, WIDTH), -0.3)
    first, last = max(left, 0), min(left + SIDE, WIDTH)
    picture[:, top : top + SIDE, first:last] = face[:, :, first - left : last - left]
    return picture


@pytest.fixture(scope="module")
def middle(face, landmarker, head):
    return track_portrait(pasted(face, MIDDLE), landmarker, head)


@pytest.mark.parametrize("left", [0, 110, WIDTH - SIDE])
def test_a_face_is_as_frontal_and_of_the_same_shape_anywhere_in_a_wide_picture(
    face, landmarker, head, middle, left
):
    track = track_portrait(pasted(face, left, top=0 if left == 110 else 20), landmarker, head)
    angles, expected = (euler_degrees(head_rotation(t))[0] for t in (track, middle))
    assert expected[0].abs() < 5
    torch.testing.assert_close(angles, expected, rtol=0, atol=1.0)
    torch.testing.assert_close(track.shape, middle.shape, rtol=0, atol=0.15)  # standard deviations
    moved = (track.camera.places() - middle.camera.places())[0, 0] * pixels_per_metre(middle)
    assert moved.item() == pytest.approx(left - MIDDLE, abs=3)


def test_a_face_cut_by_the_border_is_tracked_or_refused_in_a_sentence(face, landmarker, head):
    assert track_portrait(pasted(face, -40), landmarker, head).complete
    with pytest.raises(ValueError, match="no face was found"):
        track_portrait(pasted(face, 150 - SIDE - 120), landmarker, head)


@pytest.fixture(scope="module")
def slide(face, landmarker, head):
    return track_face((pasted(face, left) for left in range(0, WIDTH - SIDE + 1, 88)), landmarker, head, 24.0)


def test_a_still_face_that_slides_across_a_wide_picture_does_not_turn(slide):
    angles = euler_degrees(head_rotation(slide))
    assert (angles.amax(0) - angles.amin(0)).max() < 3
    across = slide.camera.places()[:, 0] * pixels_per_metre(slide)
    torch.testing.assert_close(across - across[0], torch.arange(6.0) * 88, rtol=0, atol=4)


def test_a_track_that_drives_itself_in_place_has_its_own_landmarks(slide, head):
    own = align_track(
        slide[2],
        slide,
        StructuredFaceAlignment(mode="relative", neutral_frame=2, carry="whole", follow_place=1.0),
    )
    torch.testing.assert_close(seen(head, own), seen(head, slide), rtol=0, atol=0.05)
    assert torch.equal(own.camera.intrinsics[2], slide.camera.intrinsics[2])


def test_an_older_track_is_followed_as_before(slide, head):
    """Its principal point lies in the picture's middle and the view's translation is the place."""
    view, intrinsics = slide.camera.view.clone(), slide.camera.intrinsics.clone()
    view[..., 3] = slide.camera.places()
    intrinsics[:, 1:] = torch.tensor([WIDTH / 2, HEIGHT / 2])
    older = replace(slide, camera=replace(slide.camera, view=view, intrinsics=intrinsics))
    options = StructuredFaceAlignment(neutral_frame=2, follow_place=1.0)
    places = [align_track(slide[2], driver, options).camera.places() for driver in (older, slide)]
    torch.testing.assert_close(*places, rtol=0, atol=1e-5)


def test_frames_without_a_face_still_make_a_readable_file(face, landmarker, head, tmp_path):
    frames = [pasted(face, 0), torch.zeros(3, HEIGHT, WIDTH), pasted(face, 0)]
    track = fit_track(head, follow_face(frames, landmarker, fps=10))
    assert track.found.tolist() == [True, False, True]
    assert track.camera.intrinsics[1, 1:].tolist() == [WIDTH / 2, HEIGHT / 2]
    again = load_track(save_track(track, tmp_path / "gap"), head)
    assert torch.equal(again.camera.intrinsics, track.camera.intrinsics)


def pixels_per_metre(track) -> Tensor:
    return (track.camera.intrinsics[0, 0] / -track.camera.view[0, 2, 3]).item()


def seen(head, track) -> Tensor:  # (F, 478, 2) pixels
    points = head.landmark_points(head.vertices(track.shape, track.expression, track.pose))
    return track.camera.project(points)[..., :2].nan_to_num()


def test_equal_frames_have_equal_tracks_bit_for_bit(face, landmarker, head):
    """The last frames carry coding noise of at most one level."""
    random = torch.Generator().manual_seed(0)
    noise = [torch.randint(-1, 2, face.shape, generator=random) / 127.5 for _ in range(2)]
    frames = [face] * 6 + [face + change for change in noise]
    track = track_face(iter(frames), landmarker, head, 24.0)
    for name in ("expression", "pose", "landmarks", "error"):
        values = getattr(track, name)
        assert torch.equal(values, values[:1].expand_as(values)), name
    for values in (track.camera.view, track.camera.intrinsics):
        assert torch.equal(values, values[:1].expand_as(values))
    assert torch.equal(track.expression[:1], track_portrait(face, landmarker, head).expression)


def test_the_first_frame_is_read_as_the_frames_that_follow(face, landmarker):
    """With noise no two frames are equal; the first must not stand out all the same."""
    random = torch.Generator().manual_seed(0)
    frames = [face + 0.01 * torch.randn(face.shape, generator=random) for _ in range(4)]
    points = follow_face(frames, landmarker, fps=24).points[..., :2]
    first, usual = ((points[i] - points[i + 1]).norm(dim=-1).mean() for i in (0, 2))
    assert 0 < first < 1.5 * usual


def test_a_glimpse_sees_a_step_of_a_pixel_a_blink_and_slow_motion(face, landmarker):
    (observed,) = landmarker.observe(face)
    glimpse = Glimpse.of(face, observed)
    assert glimpse.unchanged(face)
    assert not glimpse.unchanged(face.roll(1, 2))
    left, top = observed.points[[33, 133], :2].amin(0).int().tolist()
    blinking = face.clone()
    blinking[:, top - 2 : top + 3, left : left + 12] = face[:, top + 8 : top + 13, left : left + 12]
    assert not glimpse.unchanged(blinking)
    fading = [face * (1 - 0.01 * step) for step in range(1, 5)]  # each like the one before
    assert not glimpse.unchanged(fading[-1])
