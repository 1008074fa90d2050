"""ComfyUI's FACE_LANDMARKS: what is emitted, what is accepted, what is refused and how."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from magicportrait_core.tracking.following import FaceChoice
from magicportrait_core.tracking.interop import from_face_landmarks, to_bounding_boxes, to_face_landmarks
from magicportrait_core.tracking.landmarker import BLENDSHAPE_NAMES
from magicportrait_core.tracking.observation import FaceObservations, single_observation
from magicportrait_core.tracking.rigid_face import facial_transformation, solve_similarity


@pytest.fixture(scope="module")
def observed(landmarker, astronaut) -> FaceObservations:
    return single_observation(landmarker.observe(astronaut)[0], (512, 512))


@pytest.fixture
def emitted(observed, landmarker) -> dict:
    return to_face_landmarks(observed, landmarker.canonical)


def test_similarity_of_a_quarter_turn_doubled_and_moved():
    source = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    target = 2 * source @ turn.T + torch.tensor([1.0, 2, 3])
    scale, rotation, translation = solve_similarity(source, target, torch.ones(4))
    assert scale == pytest.approx(2)
    torch.testing.assert_close(rotation, turn, atol=1e-6, rtol=0)
    torch.testing.assert_close(translation, torch.tensor([1.0, 2, 3]), atol=1e-6, rtol=0)


def test_transformation_matrices_are_mediapipes(golden, landmarker):
    with safe_open(golden / "mediapipe_reference.safetensors", "pt") as file:
        frames = json.loads(file.metadata()["reference"])["frames"]
        points, matrices = file.get_tensor("points"), file.get_tensor("matrices")
    sides = {"astronaut": 512}
    rows = iter(range(len(points)))
    for frame in frames:
        side = sides.get(frame["file"].split("/")[-1].split(".")[0], 350) * frame["repeat"]
        for row in [next(rows) for _ in range(frame["faces"])]:
            matrix = facial_transformation(points[row], (side, side), landmarker.canonical)
            torch.testing.assert_close(matrix[:3, :3], matrices[row][:3, :3], atol=2e-3, rtol=0)
            torch.testing.assert_close(matrix[:3, 3], matrices[row][:3, 3], atol=0.02, rtol=2e-3)


def test_emitted_faces_have_the_hosts_fields(emitted):
    assert emitted["image_size"] == (512, 512)
    [[face]] = emitted["frames"]
    shapes = {name: value.shape for name, value in face.items() if isinstance(value, np.ndarray)}
    assert shapes == {
        "bbox_xyxy": (4,),
        "landmarks_xy": (478, 2),
        "landmarks_3d": (478, 3),
        "transformation_matrix": (4, 4),
    }
    assert list(face["blendshapes"]) == list(BLENDSHAPE_NAMES)
    # The crop is 1.5 times the face: its points lie within the middle two thirds of 192 pixels.
    assert face["landmarks_3d"][:468, :2].min() > 30 and face["landmarks_3d"][:468, :2].max() < 162
    assert 30 < -face["transformation_matrix"][2, 3] < 150  # centimetres in front of the camera


def test_outlines_are_closed_and_the_wireframe_is_whole(emitted):
    sets = emitted["connection_sets"]
    for name in ("face_oval", "lips", "left_eye", "right_eye", "irises"):
        ends = [point for line in sets[name] for point in line]
        assert all(ends.count(point) == 2 for point in ends), name
    assert len(sets["face_oval"]) == 36 and len(sets["lips"]) == 40 and len(sets["nose"]) == 25
    assert len(sets["tesselation"]) > 1200
    assert {point for line in sets["tesselation"] for point in line} == set(range(468))


def test_round_trip_keeps_the_face(observed, emitted, landmarker):
    back = from_face_landmarks(emitted, landmarker.canonical, num_frames=1, size=(512, 512))
    torch.testing.assert_close(back.points, observed.points, atol=2e-3, rtol=0)
    torch.testing.assert_close(back.blendshapes, observed.blendshapes)
    torch.testing.assert_close(back.presence, observed.presence, atol=1e-4, rtol=0)


def test_frames_without_the_face_are_empty(observed, landmarker):
    gap = replace(
        observed,
        points=torch.cat((observed.points, torch.full_like(observed.points, math.nan))),
        blendshapes=observed.blendshapes.repeat(2, 1),
        presence=observed.presence.repeat(2),
        found=torch.tensor([True, False]),
        num_faces=torch.tensor([1, 0]),
    )
    emitted = to_face_landmarks(gap, landmarker.canonical)
    assert [len(seen) for seen in emitted["frames"]] == [1, 0]
    assert [len(seen) for seen in to_bounding_boxes(gap)] == [1, 0]
    back = from_face_landmarks(emitted, landmarker.canonical)
    assert back.found.tolist() == [True, False] and back.points[1].isnan().all()


def test_a_box_is_where_the_points_are(observed):
    [[box]] = to_bounding_boxes(observed)
    assert box["x"] == pytest.approx(float(observed.points[0, :, 0].min()))
    assert box["x"] + box["width"] == pytest.approx(float(observed.points[0, :, 0].max()), abs=1e-3)


def moved(face: dict, right: float) -> dict:
    face = copy.deepcopy(face)
    face["landmarks_xy"][:, 0] += right
    return face


def test_one_of_two_faces_is_followed_whatever_their_order(emitted, landmarker):
    face = emitted["frames"][0][0]
    left, right = moved(face, -100), moved(face, 100)
    value = {"frames": [[left, right], [right, left], [left, right]], "image_size": (512, 512)}
    choice = FaceChoice(index=1, order="left_to_right")
    followed = from_face_landmarks(value, landmarker.canonical, choice)
    wanted = torch.from_numpy(right["landmarks_xy"])
    for frame in range(3):
        torch.testing.assert_close(followed.points[frame, :, :2], wanted)
    assert followed.num_faces.tolist() == [2, 2, 2]


def without(value: dict, name: str) -> dict:
    value = copy.deepcopy(value)
    del value["frames"][0][0][name]
    return value


def changed(value: dict, name: str, new) -> dict:
    value = copy.deepcopy(value)
    value["frames"][0][0][name] = new
    return value


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda v: [1, 2], "is list without 'frames' and 'image_size'; connect Detect Face Landmarks"),
        (lambda v: {**v, "frames": []}, "has no frames"),
        (lambda v: {**v, "frames": [3]}, "is not a list of faces per frame"),
        (lambda v: {**v, "image_size": (512,)}, "expected height and width"),
        (
            lambda v: without(v, "landmarks_3d"),
            "face 0 of frame 0 in face_landmarks has no usable 'landmarks_3d'",
        ),
        (
            lambda v: changed(v, "landmarks_xy", np.zeros((468, 2))),
            r"'landmarks_xy' of face 0 of frame 0 is \(468, 2\), expected \(478, 2\)",
        ),
        (lambda v: changed(v, "landmarks_xy", np.full((478, 2), np.nan)), "values that are not numbers"),
        (lambda v: changed(v, "blendshapes", {"jawOpen": 1.0}), "lacks its 52 blendshapes"),
        (lambda v: {**v, "frames": [[], []]}, "no face was found in any of the 2 frames"),
    ],
)
def test_other_values_are_refused_in_one_sentence(emitted, landmarker, spoil, sentence):
    with pytest.raises(ValueError, match=sentence):
        from_face_landmarks(spoil(emitted), landmarker.canonical)


def test_landmarks_of_other_pictures_are_refused(emitted, landmarker):
    with pytest.raises(ValueError, match="covers 1 frames, the pictures are 5"):
        from_face_landmarks(emitted, landmarker.canonical, num_frames=5)
    with pytest.raises(ValueError, match="made from 512x512 pixels, the pictures have 640x480"):
        from_face_landmarks(emitted, landmarker.canonical, size=(480, 640))
