"""The released tracker on real pictures, with stand-ins for the licensed encoders."""

from dataclasses import replace

import pytest
import torch

from magicportrait_core.alignment import StructuredFaceAlignment, align_track
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.tracking.following import FaceChoice, follow_face
from magicportrait_core.tracking.landmarks_68_of_478 import landmarks_68
from magicportrait_core.tracking.released_crops import box_of
from magicportrait_core.tracking.released_files import load_released_tracker
from magicportrait_core.tracking.released_tracker import (
    ReleasedOptions,
    track_portrait_released,
    track_released,
)
from magicportrait_core.tracking.smoothing import SmoothingOptions
from magicportrait_core.tracking.track_file import load_track, save_track


@pytest.fixture(scope="module")
def tracker(released_folder, landmarker):
    files = ("generic_model.pkl", "deca_model.tar", "SMIRK_em1.pt", "FLAME_texture.npz")
    return load_released_tracker(*(released_folder / name for name in files), landmarker=landmarker)


def moved(picture, right, down):
    """The picture's content moved by whole pixels; what comes in repeats the edge."""
    height, width = picture.shape[-2:]
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return picture[:, rows][:, :, columns]


@pytest.fixture(scope="module")
def clip(astronaut):
    """A head that moves to the right by 6 pixels a frame, and is gone in the fourth frame."""
    frames = [moved(astronaut, 6 * number, 0) for number in range(6)]
    frames[3] = torch.zeros_like(astronaut)
    return frames


@pytest.fixture(scope="module")
def result(tracker, clip):
    return track_released(clip, tracker, 25.0)


def test_clip_is_read_once_frame_by_frame(tracker, clip):
    done, handed_out = [], 0

    def frames():
        nonlocal handed_out
        for frame in clip:
            handed_out += 1
            yield frame

    def on_frame(count):
        assert handed_out == count  # nothing is read ahead
        done.append(count)

    track = track_released(frames(), tracker, 25.0, on_frame=on_frame).track
    assert done == [1, 2, 3, 4, 5, 6] and handed_out == 6 and track.num_frames == 6


def test_work_can_be_stopped(tracker, clip):
    def on_frame(count):
        if count == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        track_released(clip, tracker, 25.0, on_frame=on_frame)


def test_track_has_flames_sizes_and_survives_saving(result, tracker, tmp_path):
    track = result.track
    assert track.head == "flame2020" and track.shape.shape == (1, 300) and track.expression.shape == (6, 100)
    assert not track.shape[:, 100:].any() and not track.expression[:, 50:].any()
    assert track.texture.shape == (1, 50) and track.light.shape == (1, 9, 3)
    assert track.camera.projection == "orthographic" and track.size == (512, 512)
    assert "6 frames of 512x512" in result.report and "missing in 3" in result.report
    again = load_track(save_track(track, tmp_path / "track"), tracker.head)
    assert torch.equal(again.expression, track.expression) and torch.equal(again.light, track.light)


def test_frames_without_a_face_follow_the_policy(result, tracker, clip):
    track = result.track
    assert track.found.tolist() == [True, True, True, False, True, True] and track.complete
    assert track.confidence[3] == 0 and track.confidence[2] > 0.5
    middle = (track.expression[2] + track.expression[4]) / 2
    torch.testing.assert_close(track.expression[3], middle, atol=1e-5, rtol=0)
    held = track_released(clip, tracker, 25.0, ReleasedOptions(missing="hold")).track
    assert torch.equal(held.pose[3], held.pose[2])
    with pytest.raises(ValueError, match=r"no face was found in 1 of 6 frames \(3\)"):
        track_released(clip, tracker, 25.0, ReleasedOptions(missing="raise"))
    with pytest.raises(ValueError, match="no face was found"):
        track_released([torch.zeros(3, 128, 128)] * 2, tracker, 25.0)


def test_batches_do_not_change_the_codes(result, tracker, clip):
    alone = track_released(clip, tracker, 25.0, ReleasedOptions(batch=1)).track
    torch.testing.assert_close(alone.expression, result.track.expression, atol=1e-4, rtol=0)
    torch.testing.assert_close(alone.pose, result.track.pose, atol=1e-4, rtol=0)
    assert result.track.expression[0].abs().max() > 0.01
    with pytest.raises(ValueError, match="batch=0"):
        ReleasedOptions(batch=0)


def test_portrait_camera_is_the_crops(tracker, astronaut):
    """s, tx, ty of the encoder, placed by the crop around the face."""
    track = track_portrait_released(astronaut, tracker).track
    assert track.num_frames == 1 and track.fps == 0 and bool(track.found.all())
    (face,) = tracker.landmarker.observe(astronaut)
    left, top, right, bottom = box_of(landmarks_68(face.points))
    side = int(1.3 * 1.1 * (right - left + bottom - top) / 2)
    focal, cx, cy = track.camera.intrinsics[0].tolist()
    assert focal == pytest.approx(8 * 112 * side / 223, rel=0.1)  # the stand-in says about 8
    assert abs(cx - (left + right) / 2) < side / 8 and abs(cy - (top + bottom) / 2) < side / 8
    assert torch.equal(track.camera.view[0], torch.eye(3, 4))


def test_camera_fits_pictures_of_any_shape(tracker, astronaut):
    square = track_portrait_released(astronaut, tracker).track.camera
    wide = torch.nn.functional.pad(astronaut, (187, 200, 0, 0))
    camera = track_portrait_released(wide, tracker).track.camera
    assert camera.size == (512, 899)
    expected = square.intrinsics + torch.tensor([0.0, 187.0, 0.0])
    torch.testing.assert_close(camera.intrinsics, expected, rtol=0.02, atol=6)


def test_given_landmarks_and_boxes_are_used(result, tracker, clip, astronaut):
    observations = follow_face(clip, tracker.landmarker, fps=25.0)
    track = track_released(clip, tracker, 25.0, observations=observations).track
    assert torch.equal(track.expression, result.track.expression)
    with pytest.raises(ValueError, match="frame 0 .512x256. does not belong to the given observations"):
        track_released([f[:, :256] for f in clip], tracker, 25.0, observations=observations)
    with pytest.raises(ValueError, match="5 frames, but observations of 6"):
        track_released(clip[:5], tracker, 25.0, observations=observations)

    (face,) = tracker.landmarker.observe(astronaut)
    left, top, right, bottom = box_of(landmarks_68(face.points))
    larger = (left - 20, top - 20, right + 20, bottom + 20)
    own, given, elsewhere = (
        track_portrait_released(astronaut, tracker, deca_box=box).track.camera.intrinsics[0, 0]
        for box in (None, larger, (0.0, 400.0, 90.0, 500.0))
    )
    ratio = (right - left + bottom - top + 80) / (right - left + bottom - top)
    assert given / own == pytest.approx(ratio, rel=0.1)
    assert elsewhere == own  # another thing's box


def test_codes_are_those_of_the_chosen_face(tracker, astronaut):
    """Two people side by side; each choice gives what that half gives alone."""
    small = torch.nn.functional.interpolate(astronaut[None], scale_factor=0.75, mode="area")[0]
    other = torch.nn.functional.pad(small, (0, 0, 0, 128), value=-1.0)
    pair = torch.cat((astronaut, other), 2)
    tracks = [
        track_released([pair] * 2, tracker, 25.0, ReleasedOptions(FaceChoice(index, "left_to_right"))).track
        for index in (0, 1)
    ]
    assert tracks[0].landmarks[..., 0].max() < 512 < tracks[1].landmarks[..., 0].min()
    focal = [t.camera.intrinsics[0, 0] for t in tracks]
    assert focal[1] / focal[0] == pytest.approx(0.75, abs=0.08)


def test_raw_values_unless_smoothing_is_asked_for(result, tracker, clip):
    calm = track_released(clip, tracker, 25.0, ReleasedOptions(smoothing=SmoothingOptions())).track

    def restless(track):
        return track.expression[track.found].diff(n=2, dim=0).abs().mean()

    assert restless(calm) < 0.9 * restless(result.track)


def test_place_and_size_of_the_driver_can_be_followed(result, tracker, astronaut):
    portrait = track_portrait_released(astronaut, tracker).track
    driving = result.track
    still = align_track(portrait, driving, StructuredFaceAlignment(mode="absolute"))
    assert torch.equal(still.camera.intrinsics, portrait.camera.intrinsics.expand(6, 3))
    followed = align_track(portrait, driving, StructuredFaceAlignment(mode="absolute", follow_place=1.0))
    origin = torch.zeros(6, 1, 3)
    expected = driving.camera.project(origin)[:, 0, :2]
    found = followed.camera.project(origin)[:, 0, :2]
    torch.testing.assert_close(found - found[0], expected - expected[0], atol=0.5, rtol=0)
    assert expected[5, 0] - expected[0, 0] > 20
    size = driving.camera.intrinsics[:, 0] / driving.camera.intrinsics[0, 0]
    torch.testing.assert_close(followed.camera.intrinsics[:, 0] / portrait.camera.intrinsics[0, 0], size)


def test_neck_can_carry_the_turn(result, tracker, astronaut):
    portrait = track_portrait_released(astronaut, tracker).track
    whole, neck = (
        align_track(portrait, result.track, StructuredFaceAlignment(mode="absolute", carry=carry))
        for carry in ("whole", "neck")
    )
    assert not whole.pose[:, 1].any() and neck.pose[:, 1].any()
    assert torch.equal(neck.pose[:, 0], portrait.pose[:, 0].expand(6, 3))


def test_centred_camera_shows_the_same(result):
    view = torch.eye(3, 4)[None]
    camera = Camera(view, torch.tensor([[900.0, 200.0, 310.0]]), (512, 640), "orthographic")
    points = torch.rand(1, 10, 3)
    torch.testing.assert_close(camera.centred().project(points), camera.project(points), atol=1e-3, rtol=0)
    assert camera.centred().intrinsics[0].tolist() == [900.0, 320.0, 256.0]
    with pytest.raises(ValueError, match="only an orthographic camera"):
        replace(camera, projection="perspective").centred()
    assert (result.track.camera.intrinsics[:, 1:] == 256).all()


def test_encoder_that_breaks_down_is_reported(tracker, astronaut):
    class Broken(torch.nn.Linear):
        def forward(self, crops):
            return torch.full((len(crops), 236), float("nan"))

    with pytest.raises(ValueError, match="not numbers; load the encoders in float32 or bfloat16"):
        track_portrait_released(astronaut, replace(tracker, deca=Broken(1, 1)))
