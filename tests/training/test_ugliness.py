"""Measures of the ugliness suite on landmarks, rotations and pictures that can be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from magicportrait_core.head.assets import load_head
from magicportrait_core.tracking.rotations import rotation_of_euler
from training.evaluation.ugliness_openings import (
    HeadRange,
    Openings,
    lid_error,
    lid_range,
    lip_error,
    lip_range,
)
from training.evaluation.ugliness_pixels import OVAL, changed_outside, contrast_ratio, face_oval, grown
from training.evaluation.ugliness_seen import amplitudes, box_of
from training.evaluation.ugliness_turn import Turns


def drawn(lip_gap: float, right: float, left: float, tilt: float = 0.0) -> torch.Tensor:
    """Landmarks (478, 3): outer eyes 100 pixels apart, eyes 30 wide, with the openings in pixels."""
    points = torch.zeros(478, 3)
    for index, x in ((33, -50), (133, -20), (362, 20), (263, 50)):
        points[index, 0] = x
    for pairs, x, opening in (
        (((159, 145), (160, 144), (158, 153)), -35, right),
        (((386, 374), (387, 373), (385, 380)), 35, left),
    ):
        for up, low in pairs:
            points[up], points[low] = torch.tensor([x, -opening / 2, 0]), torch.tensor([x, opening / 2, 0])
    points[13], points[14] = torch.tensor([0, 60.0, 0]), torch.tensor([0, 60.0 + lip_gap, 0])
    turn = rotation_of_euler(torch.tensor([tilt, 0.0, 0.0]))
    return points @ turn.T


def opened(*frames: tuple[float, float, float]) -> Openings:
    return Openings.of(torch.stack([drawn(*frame) for frame in frames]))


HEAD = HeadRange(lips=0.5, lids=torch.tensor([0.1, 0.1]))


def test_openings_are_counted_in_outer_eye_distances():
    seen = opened((25, 10, 8))
    assert float(seen.lips) == pytest.approx(0.25)
    assert seen.lids[0].tolist() == pytest.approx([0.10, 0.08])
    assert seen.judged[0].tolist() == [True, True]


def test_a_turned_head_keeps_its_openings():
    turned = Openings.of(drawn(25, 10, 8, tilt=40.0)[None])
    assert float(turned.lips) == pytest.approx(0.25, abs=1e-5)
    assert turned.lids[0].tolist() == pytest.approx([0.10, 0.08], abs=1e-5)


def test_an_eye_that_is_seen_half_as_wide_as_the_other_is_not_judged():
    points = drawn(0, 10, 10)
    points[33, 0] = -34  # 14 pixels wide instead of 30
    assert Openings.of(points[None]).judged[0].tolist() == [False, True]


def test_a_range_is_the_heads_or_the_widest_seen_whichever_is_larger():
    assert lip_range(torch.tensor([0.1, 0.2, math.nan]), HEAD) == 0.5
    assert lip_range(torch.full((20,), 0.7), HEAD) == pytest.approx(0.7)
    assert lip_range(torch.tensor([math.nan]), HEAD) == 0.5


def test_lips_that_open_by_the_drivers_share_are_right():
    """Half of the driver's .4 is .25 of a portrait whose mouth opens by .5."""
    driver = torch.tensor([0.0, 0.2, 0.4])
    assert lip_error(torch.tensor([0.0, 0.25, 0.5]), driver, 0.5, 0.4) == pytest.approx(0, abs=1e-7)
    assert lip_error(torch.tensor([0.0, 0.0, 0.0]), driver, 0.5, 0.4) == pytest.approx(0.25)


def test_a_frame_without_a_face_does_not_count():
    error = lip_error(torch.tensor([math.nan, 0.3]), torch.tensor([0.1, 0.2]), 0.5, 0.5)
    assert error == pytest.approx(0.1)


def test_lids_are_compared_as_shares_of_the_widest():
    """Eyes of .20 and of .10 that both shut by half differ by nothing; one that stays open by half."""
    driver, right = opened((0, 10, 10), (0, 5, 5)), opened((0, 20, 20), (0, 10, 10))
    ranges = lid_range(right.lids, HEAD, right.lids[0]), lid_range(driver.lids, HEAD, driver.lids[0])
    assert lid_error(right, driver, *ranges) == pytest.approx(0, abs=1e-6)
    stays = opened((0, 20, 20), (0, 20, 10))
    assert lid_error(stays, driver, *ranges) == pytest.approx(0.5 / 4)


def test_eyes_that_never_open_are_not_fully_open():
    shut = opened((0, 1, 1), (0, 1, 1))
    assert lid_range(shut.lids, HEAD, shut.lids[0]).tolist() == pytest.approx([0.06, 0.06])


def test_the_heads_own_range_is_that_of_a_person():
    """A jaw that drops opens the lips by about half of the outer-eye distance, eyes are a tenth of it."""
    head = load_head()
    own = HeadRange.of(head, torch.zeros(1, head.num_shape))
    assert 0.3 < own.lips < 0.8
    assert all(0.06 < value < 0.2 for value in own.lids.tolist())


def turns(
    shown: list[float], driver: list[float], wanted: list[float] | None = None, own: float = 0.0
) -> Turns:
    """Rotations by yaw, degrees: shown and wanted since `own`, the driver since 0."""

    def of(yaws: list[float]) -> torch.Tensor:
        return torch.stack([rotation_of_euler(torch.tensor([yaw, 0.0, 0.0])) for yaw in yaws])

    here = of([own])[0]
    asked = wanted if wanted is not None else [own + yaw for yaw in driver]
    return Turns(here, of(shown), here, of(asked), torch.eye(3), of(driver))


def test_a_head_that_turns_as_asked_has_no_error_and_a_gain_of_one():
    yaws = [-8.0, -4.0, 3.0, 6.0, 9.0]
    same = turns(yaws, yaws)
    assert same.error() == pytest.approx(0, abs=1e-3)
    assert same.gain(20, 20) == pytest.approx(1, abs=1e-4)


def test_half_the_turn_is_a_gain_of_half_and_an_error_of_half():
    half = turns([-4.0, -2.0, 3.0, 4.0], [-8.0, -4.0, 6.0, 8.0])
    assert half.gain(20, 20) == pytest.approx(0.5, abs=1e-3)
    assert half.error() == pytest.approx((4 + 2 + 3 + 4) / 4, abs=1e-3)


def test_gain_looks_only_at_what_is_within_half_of_the_limit():
    """Beyond 10 of 20 degrees the head may be held back; to the left only 3 of 6 count."""
    held = turns([4.0, 5.0, 6.0, 9.0, 15.0, -2.0], [4.0, 5.0, 6.0, 9.0, 60.0, -5.0])
    assert held.gain(left=6, right=20) == pytest.approx(1, abs=1e-4)
    assert math.isnan(turns([1.0] * 5, [1.0] * 5).gain(20, 20))  # a driver who hardly turns


def test_a_head_that_stands_still_is_told():
    driver = [0.0, 10.0, 30.0]
    assert turns([0.0, 0.5, 1.0], driver).stands_still(18)
    assert not turns([0.0, 5.0, 12.0], driver).stands_still(18)
    assert not turns([0.0, 0.0, 0.5], [0.0, 2.0, 4.0]).stands_still(18)  # the driver stands still himself


def test_yaw_beyond_the_limits_is_counted_by_side():
    assert turns([10.0, -4.0], [10.0, -4.0]).over(left=6, right=8) == pytest.approx(2, abs=1e-3)
    assert turns([4.0, -9.0], [4.0, -9.0]).over(left=6, right=8) == pytest.approx(3, abs=1e-3)
    assert turns([33.0], [3.0], own=30.0).over(left=6, right=8) == 0  # 3 degrees from where the photo is


def test_frames_without_a_face_do_not_turn():
    seen = turns([2.0, 4.0], [2.0, 4.0])
    lost = Turns(
        seen.photo,
        torch.cat((seen.shown, torch.full((1, 3, 3), math.nan))),
        seen.own,
        torch.cat((seen.wanted, torch.eye(3)[None])),
        seen.neutral,
        torch.cat((seen.driver, torch.eye(3)[None])),
    )
    assert lost.error() == pytest.approx(0, abs=1e-3) and lost.largest()[0] == pytest.approx(4, abs=1e-3)


def test_a_known_share_of_changed_pixels_is_found():
    """Of 100 pixels 50 are a person's; of the others 5 changed, 10 more by 24 levels and no more."""
    photo = torch.full((3, 10, 10), 100, dtype=torch.uint8)
    result = photo.clone()
    result[:, 0, :5] = 125
    result[:, 1, :] = 124
    people = torch.zeros(10, 10, dtype=torch.bool)
    people[5:] = True
    result[:, 5:] = 255  # people may change
    assert changed_outside(photo, result, people) == pytest.approx(5 / 50)
    assert changed_outside(photo, result, torch.ones(10, 10, dtype=torch.bool)) == 0


def test_a_rim_grows_by_its_radius():
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[4, 4] = True
    assert int(grown(mask, 2).sum()) == 25 and bool(grown(mask, 2)[2, 6])


def test_the_face_oval_is_the_polygon_of_its_landmarks():
    points = torch.zeros(478, 3)
    for i, index in enumerate(OVAL):
        angle = 2 * math.pi * i / len(OVAL)
        points[index] = torch.tensor([50 + 30 * math.sin(angle), 40 - 20 * math.cos(angle), 0])
    inside = face_oval(points, (80, 100))
    assert inside.shape == (80, 100) and bool(inside[40, 50]) and not bool(inside[40, 85])
    assert int(inside.sum()) == pytest.approx(math.pi * 30 * 20, rel=0.05)
    assert box_of(points[list(OVAL)]) == pytest.approx((20, 20, 80, 60), abs=0.5)


def test_a_face_whose_contrast_is_scaled_is_told_by_how_much():
    warp = torch.randint(60, 190, (3, 20, 20), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mask = torch.ones(20, 20, dtype=torch.bool)
    pale = (128 + (warp.float() - 128) * 0.8).round().to(torch.uint8)
    brighter = warp + 20
    assert contrast_ratio(pale, warp, mask) == pytest.approx(0.8, abs=0.005)
    assert contrast_ratio(brighter, warp, mask) == pytest.approx(1)
    assert math.isnan(contrast_ratio(pale, warp, torch.zeros(20, 20, dtype=torch.bool)))


def test_amplitude_is_that_of_the_parts_of_the_face():
    names = ("jawOpen", "eyeBlinkLeft", "browInnerUp", "eyeLookUpLeft")
    driver = torch.tensor([[0.0, 0.0, 0.3, 0.0], [0.8, 0.6, 0.3, 1.0]])
    half = torch.tensor([[0.1, 0.2, 0.3, 0.0], [0.5, 0.2, 0.3, 0.0]])
    seen = amplitudes(half, driver, names)
    assert seen["amplitude_mouth"] == pytest.approx(0.5)
    assert seen["amplitude_lids"] == 0
    assert math.isnan(seen["amplitude_brows"])  # the driver's brows stay
    assert seen["amplitude"] == pytest.approx(0.2 / math.hypot(0.4, 0.3))  # gaze does not count
