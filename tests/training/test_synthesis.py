"""Synthetic clips: the same whatever makes them, labels that are exact, tracks that lie over the pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")

from magicportrait_core.warp.sources import MOUTH, OUTSIDE, PHOTO
from training.clip_store import CHANNELS, check_clip
from training.synthesis import tracks
from training.synthesis.clips import Recipe, Workshop, make_clip, random_stage
from training.synthesis.labels import labelled_clip
from training.synthesis.motions import Motion, look, random_expression, single_pictures, smooth_motion
from training.synthesis.people import random_person
from training.synthesis.rendering import posed, render

SIZE = 48


def recipe_of(**changes) -> Recipe:
    return replace(Recipe("single", 2, SIZE, seed=5, photo_skins=False), **changes)


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop.of(recipe_of())


@pytest.fixture(scope="module")
def clips(workshop) -> list:
    return [make_clip(workshop, number) for number in range(4)]


def parts(clip) -> dict[str, torch.Tensor]:
    return {"frames": clip.frames, "reference": clip.reference, **clip.maps}


def same(one, other) -> bool:
    first, second = parts(one), parts(other)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def scene(workshop, number: int = 0):
    random = np.random.default_rng([1, number])
    person = random_person(random, workshop.surface)
    return random, person, random_stage(random, 96)


def test_a_clip_holds_all_that_networks_read(clips):
    for clip in clips:
        check_clip(clip)
        assert clip.frames.shape == (2, 3, SIZE, SIZE)
        assert set(clip.maps) == set(CHANNELS) - {"render"}
        assert clip.fps == 0


def test_clips_depend_on_seed_and_number_alone(workshop, clips):
    """Made again, in another order, they are the same bit for bit."""
    assert same(make_clip(workshop, 2), clips[2])
    assert same(make_clip(workshop, 0), clips[0])
    other = replace(workshop, recipe=recipe_of(seed=6))
    assert not same(make_clip(other, 0), replace(clips[0]))
    assert not same(clips[0], clips[1])


def test_the_warp_is_nearer_to_the_truth_than_the_still_portrait(clips):
    """On the head, over all targets: otherwise tracks and pictures do not belong together."""
    warp, still = 0.0, 0.0
    for clip in clips:
        head = clip.maps["sources"] != OUTSIDE
        truth = clip.frames.float()
        warp += float(((clip.maps["warp"] - truth).square() * head).sum())
        still += float(((clip.reference - truth).square() * head).sum())
    assert warp < 0.5 * still


def test_where_nothing_moves_the_warp_is_the_portrait(workshop):
    """Every pixel, at the pictures' own size; and all of the head is labelled as photo."""
    random, person, stage = scene(workshop)
    head = workshop.surface.head
    motion = single_pictures(random, head, 1)[0]
    frame = posed(workshop.surface, person, stage, motion, motion)
    picture = random.integers(0, 256, (96, 96, 3)).astype(np.uint8)
    error = tracks.random_error(random, head)
    track = tracks.tracked_portrait(random, head, person.shape, frame, error)
    target = replace(track, landmarks=None)
    clip = labelled_clip("still", head, workshop.appearance, (picture, track), [(picture, target)], size=96)
    assert torch.equal(clip.maps["warp"][0], clip.reference)
    assert torch.equal(clip.frames[0], clip.reference)
    covered = clip.maps["depth"][0, 0] > 0
    labels = clip.maps["sources"][0, 0][covered]
    assert ((labels == PHOTO) | (labels == MOUTH) | (labels == OUTSIDE)).all()
    assert (labels == PHOTO).float().mean() > 0.9


def test_a_perfect_tracker_lies_on_the_picture(workshop):
    """Without errors its landmarks are where those of the truth are, though it knows nothing of the neck
    and assumes another lens."""
    random, person, stage = scene(workshop, 1)
    head = workshop.surface.head
    none = tracks.random_error(random, head, size=0.0)
    motions = single_pictures(random, head, 2)
    frames = [posed(workshop.surface, person, stage, motion, motions[0]) for motion in motions]
    portrait = tracks.tracked_portrait(random, head, person.shape, frames[0], none)
    targets = [
        tracks.tracked_target(random, head, person.shape, frame, none, portrait) for frame in frames[1:]
    ]
    for frame, track in zip(frames, [portrait, *targets], strict=True):
        truth = tracks.true_landmarks(head, person.shape, frame)[:468, :2]
        vertices = head.vertices(track.shape, track.expression, track.pose)
        found = head.landmark_points(track.camera.project(vertices))[0, :468, :2]
        eyes = (truth[33] - truth[263]).norm()
        assert (found - truth).norm(dim=1).mean() < 0.03 * eyes


def test_tracker_errors_are_about_a_hundredth_of_the_eyes_distance(workshop):
    head, errors = workshop.surface.head, []
    for number in range(6):
        random, person, stage = scene(workshop, number)
        stage = replace(stage, focal=0.5 * 96 / np.tan(np.radians(15)))  # the tracker's own lens
        motion = Motion(np.zeros(52, np.float32), np.zeros(3), np.zeros(3), np.zeros(3))
        frame = posed(workshop.surface, person, stage, motion, motion)
        error = tracks.random_error(random, head)
        track = tracks.tracked_portrait(random, head, person.shape, frame, error)
        truth = tracks.true_landmarks(head, person.shape, frame)[:468, :2]
        vertices = head.vertices(track.shape, track.expression, track.pose)
        found = head.landmark_points(track.camera.project(vertices))[0, :468, :2]
        errors.append(float((found - truth).norm(dim=1).mean() / (truth[33] - truth[263]).norm()))
    assert 0.005 < np.mean(errors) < 0.025


def test_the_portrait_fills_its_place_and_shoulders_stay(workshop):
    """The head's middle is at the stage's place; turning the head leaves the lowest vertices alone."""
    random, person, stage = scene(workshop)
    head = workshop.surface.head
    still = np.zeros(52, np.float32)
    portrait = Motion(still, np.array([0.2, 0.0, 0.0]), np.zeros(3), np.zeros(3))
    turned = Motion(still, np.array([-0.3, 0.1, 0.0]), np.zeros(3), np.zeros(3))
    meshes = []
    for motion in (portrait, turned):
        frame = posed(workshop.surface, person, stage, motion, portrait)
        meshes.append(frame.camera.to_camera(head.vertices(person.shape, frame.expression, frame.pose))[0])
    low = head.template[:, 1].argmin()
    torch.testing.assert_close(meshes[0][low], meshes[1][low], rtol=0, atol=1e-3)
    assert (meshes[0] - meshes[1]).norm(dim=1).max() > 0.02


def test_light_stays_in_the_world(workshop):
    """A head lit from its right, turned round, is lit on its other side: the left of the picture stays
    brighter."""
    _, person, stage = scene(workshop)
    side = np.array([[-1.0, 0.0, 0.2], [-1.0, 0.0, 0.2]]) / np.sqrt(1.04)
    lights = replace(
        stage.lights, directions=side, colours=np.ones((2, 3)), sky=np.zeros(3), ground=np.zeros(3)
    )
    dark = np.full((96, 96, 3), np.nan, np.float32)
    place = np.array([0.0, 0.0, -1.2])
    stage = replace(stage, lights=lights, background=dark, place=place, focal=300.0)
    for yaw in (-0.3, 0.3):
        motion = Motion(np.zeros(52, np.float32), np.array([yaw, 0, 0]), np.zeros(3), np.zeros(3))
        frame = posed(workshop.surface, replace(person, solids=()), stage, motion, motion)
        picture = render(workshop.surface, replace(person, solids=()), stage, frame)
        assert np.nanmean(picture[:, :48]) > 2 * np.nanmean(picture[:, 48:])


def test_eyes_look_the_same_way(workshop):
    names = workshop.surface.head.expression_names
    values = np.zeros(len(names), np.float32)
    look(values, names, 0.5, -0.25)
    there = {name: float(values[names.index(name)]) for name in names if values[names.index(name)] > 0}
    assert there == {
        "eyeLookOutRight": 0.5,
        "eyeLookInLeft": 0.5,
        "eyeLookDownLeft": 0.25,
        "eyeLookDownRight": 0.25,
    }


def test_moving_clips_move_smoothly(workshop):
    """No frame turns by more than 6 degrees from the one before (150 degrees a second)."""
    for seed in range(10):
        motions = smooth_motion(np.random.default_rng(seed), workshop.surface.head, 12, 25.0)[1:]
        turns = np.stack([motion.head for motion in motions])
        assert len(motions) == 12
        assert np.abs(np.diff(turns, axis=0)).max() < np.radians(6)
        assert all(0 <= motion.expression.min() and motion.expression.max() <= 1 for motion in motions)


def test_people_who_laugh_show_their_upper_teeth(workshop):
    """A quarter of all faces: lip corners and upper lip up on both sides, half of them with the jaw open."""
    head = workshop.surface.head
    faces = [random_expression(np.random.default_rng(seed), head, 0.0) for seed in range(400)]

    def value(face: np.ndarray, name: str) -> float:
        return face[head.expression_names.index(name)]

    laughing = [face for face in faces if value(face, "mouthUpperUpLeft") >= 0.3]
    assert 70 <= len(laughing) <= 130
    assert all(value(face, "mouthSmileLeft") >= 0.3 for face in laughing)
    assert all(value(face, "mouthUpperUpLeft") == value(face, "mouthUpperUpRight") for face in laughing)
    assert 0.15 < np.mean([value(face, "jawOpen") > 0.3 for face in laughing]) < 0.45


def test_some_pictures_show_all_of_the_person_elsewhere(workshop):
    """One in five, by a few centimetres; the others by less than two."""
    head = workshop.surface.head
    motions = [single_pictures(np.random.default_rng(seed), head, 1)[1] for seed in range(300)]
    moved = np.array([np.linalg.norm(motion.sway) for motion in motions])
    assert 0.10 < (moved > 0.03).mean() < 0.25
    assert np.median(moved) < 0.02
