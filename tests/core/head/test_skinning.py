import math

import pytest
import torch

from magicportrait_core.head.skinning import (
    axis_angle_to_matrix,
    blend,
    joint_transforms,
    matrix_to_axis_angle,
    pose_features,
    skin,
    vertex_normals,
)

X, Y, Z = torch.eye(3)


@pytest.mark.parametrize(("axis", "start", "end"), [(Z, X, Y), (X, Y, Z), (Y, Z, X)])
def test_quarter_turn_about_an_axis_takes_the_next_axis_to_the_one_after(axis, start, end):
    matrix = axis_angle_to_matrix(axis * math.pi / 2)
    torch.testing.assert_close(matrix @ start, end, atol=1e-6, rtol=0)


def test_no_turn_is_exactly_the_identity():
    assert torch.equal(axis_angle_to_matrix(torch.zeros(2, 5, 3)), torch.eye(3).expand(2, 5, 3, 3))


def test_gradient_at_zero_is_the_skew_matrix():
    v = torch.zeros(3, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(axis_angle_to_matrix, v)
    assert torch.isfinite(jacobian).all()
    assert jacobian[2, 1, 0] == 1 and jacobian[1, 2, 0] == -1  # a small turn about x moves y towards z


def test_matrix_agrees_with_the_matrix_exponential():
    v = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2
    k = torch.linalg.cross(v[:, None].expand(-1, 3, -1), torch.eye(3, dtype=torch.float64).expand(50, -1, -1))
    expected = torch.linalg.matrix_exp(k.transpose(1, 2))
    torch.testing.assert_close(axis_angle_to_matrix(v), expected)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-3, 0.5, 2.0, 3.0, math.pi - 1e-4])
def test_axis_angle_survives_the_way_through_a_matrix(angle):
    axes = torch.nn.functional.normalize(
        torch.randn(20, 3, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    axes = torch.cat((axes, torch.eye(3), -torch.eye(3))).double()
    v = axes * angle
    torch.testing.assert_close(matrix_to_axis_angle(axis_angle_to_matrix(v)), v, atol=1e-9, rtol=1e-9)


def test_half_turn_comes_back_as_a_half_turn():
    matrix = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    torch.testing.assert_close(matrix_to_axis_angle(matrix).abs(), torch.tensor([0.0, math.pi, 0.0]))


def test_gradient_of_the_inverse_is_finite_at_the_identity():
    matrix = torch.eye(3, requires_grad=True)
    matrix_to_axis_angle(matrix).sum().backward()
    assert torch.isfinite(matrix.grad).all()


def test_blend_uses_as_many_shapes_as_there_are_coefficients():
    basis = torch.stack((torch.ones(4, 3), torch.full((4, 3), 10.0), torch.full((4, 3), 100.0)))
    assert torch.equal(blend(torch.tensor([[2.0, 1.0]]), basis), torch.full((1, 4, 3), 12.0))


def test_child_turns_about_its_own_joint_and_follows_its_parent():
    joints = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    turn = axis_angle_to_matrix(torch.tensor([[[0.0, 0.0, math.pi / 2], [0.0, 0.0, math.pi / 2]]]))
    transforms = joint_transforms(turn, joints, (-1, 0))
    tip = torch.tensor(
        [[[0.0, 2.0, 0.0]]]
    )  # one above the child: child takes it to (-1, 1), parent to (-1, -1)
    moved = skin(tip, transforms, torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(moved, torch.tensor([[[-1.0, -1.0, 0.0]]]), atol=1e-6, rtol=0)


def test_half_weights_land_halfway():
    joints = torch.zeros(1, 2, 3)
    turn = axis_angle_to_matrix(torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, math.pi / 2]]]))
    moved = skin(X[None, None], joint_transforms(turn, joints, (-1, 0)), torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(moved, torch.tensor([[[0.5, 0.5, 0.0]]]))


def test_pose_features_leave_out_the_root_and_vanish_at_rest():
    rotations = axis_angle_to_matrix(torch.zeros(1, 5, 3))
    rotations[:, 0] = axis_angle_to_matrix(X)
    assert torch.equal(pose_features(rotations), torch.zeros(1, 36))


def test_normals_of_a_cube_corner_point_along_the_diagonal():
    vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]])
    faces = torch.tensor(
        [[0, 2, 1], [0, 3, 2], [0, 1, 3]]
    )  # three unit faces that meet at the origin, from outside
    normals = vertex_normals(vertices, faces)
    torch.testing.assert_close(normals[0, 0], -torch.ones(3) / math.sqrt(3))
    torch.testing.assert_close(normals[0, 1], torch.tensor([0.0, -1.0, -1.0]) / math.sqrt(2))


def test_normals_weigh_faces_by_area():
    vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 3]]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])  # area 1/2 towards z, area 3/2 towards x
    expected = torch.nn.functional.normalize(torch.tensor([3.0, 0.0, 1.0]), dim=0)
    torch.testing.assert_close(vertex_normals(vertices, faces)[0, 0], expected)
