"""What strangers' photos and clips once broke, made of one photo: default settings, judged in the picture."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hard_pictures import Actor, equal_frames, off_the_middle, portrait_of, sliding
from torch import Tensor

from magicportrait_core.alignment import align, seen_rotation
from magicportrait_core.head.assets import load_head
from magicportrait_core.tracking.rotations import angle_between, euler_degrees
from magicportrait_core.tracking.tracker import track_face, track_portrait
from magicportrait_core.warp import prepare_warp, warp_clip

FPS = 25.0
TALKS = [0.0, 0.0, 0.3, 0.6, 0.3, 0.0, 0.0, 0.0]  # jawOpen of a driver
BLINKS = [0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 0.5, 0.0]  # his lids
CALM = [0, 7]  # frames with mouth shut and eyes open
SHUT = 5  # a frame with eyes shut


@pytest.fixture(scope="module")
def actor(astronaut, landmarker) -> Actor:
    return Actor.of(portrait_of(astronaut), landmarker)


@pytest.fixture(scope="module")
def driver(actor, landmarker):
    """The track of a clip in which the plain face talks and blinks."""
    plain = {name: [0.0] for name in actor.head.expression_names}
    clip = actor.act(**plain | {"jawOpen": TALKS, "eyeBlinkLeft": BLINKS, "eyeBlinkRight": BLINKS})
    return track_face(clip, landmarker, load_head(), FPS)


@pytest.fixture(scope="module")
def moved(driver, landmarker) -> Callable[..., list[Tensor]]:
    """moved(portrait, frames): the landmarks (478, 3) seen in frames of the portrait, moved by the driver."""

    def move(portrait: Tensor, frames: list[int], driving=driver) -> list[Tensor]:
        head = load_head()
        track = track_portrait(portrait, landmarker, head)
        aligned = align(track, driving, head=head).track[torch.tensor(frames)]
        results = [frame.image for frame in warp_clip(prepare_warp(head, portrait, track), aligned)]
        return [landmarker.observe(picture)[0].points for picture in results]

    return move


def lip_gap(points: Tensor) -> float:
    """In outer-eye distances."""
    return float((points[13, :2] - points[14, :2]).norm() / (points[33, :2] - points[263, :2]).norm())


def lids(points: Tensor) -> list[float]:
    """The opening of the right and of the left eye, as a share of its width."""
    eyes = ((159, 145, 33, 133), (386, 374, 362, 263))
    return [
        float((points[a, :2] - points[b, :2]).norm() / (points[c, :2] - points[d, :2]).norm())
        for a, b, c, d in eyes
    ]


def test_an_open_mouth_shuts_where_the_drivers_is_shut(actor, moved):
    assert max(map(lip_gap, moved(actor.open_mouth(), CALM))) < 0.10


def test_a_mouth_opens_with_the_drivers(actor, moved):
    shut, opened = map(lip_gap, moved(actor.plain(), [0, 3]))
    assert opened > shut + 0.08


def test_shut_eyes_open_where_the_drivers_are_open(actor, moved):
    for points in moved(actor.shut_eyes(), CALM):
        assert min(lids(points)) > 0.2


def test_large_eyes_shut_fully(actor, moved):
    assert max(lids(moved(actor.large_eyes(1.6), [SHUT])[0])) < 0.12


def test_eyes_behind_glasses_blink(actor, moved):
    """Also with a driver whose eyes are half shut in the frame in which his face is calmest."""
    assert max(lids(moved(actor.glasses()[0], [SHUT])[0])) < 0.12


def test_a_driver_who_laughs_in_every_frame_makes_the_portrait_laugh(actor, moved, landmarker):
    laugh = {"mouthSmileLeft": [0.9], "mouthSmileRight": [0.9], "jawOpen": [0.5, 0.55, 0.5, 0.45]}
    driving = track_face(actor.act(**laugh), landmarker, load_head(), FPS)
    assert min(map(lip_gap, moved(actor.plain(), [0, 1, 2, 3], driving))) > 0.12


@pytest.mark.parametrize("side", [0.0, 0.5, 1.0])
def test_a_frontal_face_is_frontal_anywhere_in_a_wide_picture(side, actor, landmarker):
    track = track_portrait(off_the_middle(actor.picture, side), landmarker, load_head())
    assert euler_degrees(seen_rotation(track))[0, 0].abs() < 5


def test_a_still_face_that_slides_turns_no_portrait(actor, landmarker):
    head = load_head()
    driving = track_face(sliding(actor.picture, 7), landmarker, head, FPS)
    turned = seen_rotation(align(actor.track, driving, head=head).track)
    pairs = angle_between(turned[:, None].expand(-1, 7, -1, -1), turned[None].expand(7, -1, -1, -1))
    assert torch.rad2deg(pairs.max()) < 3


def test_equal_pictures_have_equal_tracks(actor, landmarker):
    track = track_face(equal_frames(actor.picture), landmarker, load_head(), FPS)
    for values in (track.expression, track.pose, track.eyelids, track.landmarks):
        assert torch.equal(values, values[:1].expand_as(values))
