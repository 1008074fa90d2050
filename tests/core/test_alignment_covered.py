"""What a portrait hides keeps still, and is named before the long work."""

from dataclasses import replace

import pytest
import torch
from synthetic_head import ARKIT, synthetic_head, synthetic_track

from magicportrait_core.alignment import StructuredFaceAlignment, align
from magicportrait_core.tracking.covers import ZONES

JAW, SMILE, BROW, RIGHT, LEFT = (
    ARKIT.index(n) for n in ("jawOpen", "mouthSmileLeft", "browInnerUp", "eyeBlinkRight", "eyeBlinkLeft")
)


def covering(track, *zones):
    covered = torch.tensor([[zone in zones for zone in ZONES]]).expand(track.num_frames, -1)
    return replace(track, covered=covered)


@pytest.fixture
def portrait():
    return replace(synthetic_track(synthetic_head(), frames=1, seed=5), fps=0.0)


@pytest.fixture
def driving():
    return synthetic_track(synthetic_head(), frames=4, seed=6)


def differs(aligned, portrait, column):
    return (aligned.track.expression[:, column] != portrait.expression[:, column]).any()


@pytest.mark.parametrize("mode", ["auto", "relative"])
def test_a_covered_mouth_keeps_the_photos_own_values(portrait, driving, mode):
    aligned = align(covering(portrait, "mouth"), driving, StructuredFaceAlignment(mode=mode))
    assert not differs(aligned, portrait, JAW) and not differs(aligned, portrait, SMILE)
    assert differs(aligned, portrait, BROW) and differs(aligned, portrait, LEFT)
    [said] = [text for text in aligned.warnings if "cannot be seen" in text]
    assert "the portrait's mouth and chin" in said and "stays as in the photo" in said


def test_a_covered_eye_leaves_the_other_eye_and_the_mouth_free(portrait, driving):
    aligned = align(covering(portrait, "right_eye"), driving)
    assert not differs(aligned, portrait, RIGHT)
    assert differs(aligned, portrait, LEFT) and differs(aligned, portrait, JAW)
    assert any("the portrait's right eye" in text for text in aligned.warnings)


def test_covers_of_a_head_without_names_are_its_joints_and_for_the_mouth_its_expressions():
    head = synthetic_head(arkit=False)
    portrait = synthetic_track(head, frames=1, seed=5)
    driving = synthetic_track(head, frames=4, seed=6)
    mouth = align(covering(portrait, "mouth"), driving).track
    assert torch.equal(mouth.expression, portrait.expression.expand_as(mouth.expression))
    assert torch.equal(mouth.pose[:, 2], portrait.pose[:, 2].expand(4, 3))
    eye = align(covering(portrait, "left_eye"), driving).track
    assert torch.equal(eye.eyelids[:, 0], portrait.eyelids[:, 0].expand(4))
    assert torch.equal(eye.pose[:, 3], portrait.pose[:, 3].expand(4, 3))
    assert (eye.expression != portrait.expression).any()


def test_absolute_stays_as_in_the_paper_and_says_that_it_may_stretch(portrait, driving):
    options = StructuredFaceAlignment(mode="absolute")
    aligned, plain = (align(each, driving, options) for each in (covering(portrait, "mouth"), portrait))
    assert torch.equal(aligned.track.expression, plain.track.expression)
    assert any("may be stretched" in text for text in aligned.warnings)


def test_the_border_that_cuts_a_face_is_named(portrait, driving):
    height, width = portrait.size
    assert not any("border" in text for text in align(portrait, driving).warnings)
    points = portrait.landmarks.clone()
    points[..., :2] = points.new_tensor([width / 2, height / 2])
    points[:, 152, 1] = height + 30.0  # the chin; the face is as high as half the picture and 30 pixels
    [said] = [
        text for text in align(replace(portrait, landmarks=points), driving).warnings if "border" in text
    ]
    assert "the bottom border" in said


def test_covers_of_the_driver_are_said_with_their_frames(portrait, driving):
    covered = torch.zeros(4, len(ZONES), dtype=torch.bool)
    covered[1:3, 0] = True
    said = align(portrait, replace(driving, covered=covered)).warnings
    assert (
        "the driver's mouth and chin covered in 2 of 4 frames (1-2): bridged from the frames around" in said
    )
