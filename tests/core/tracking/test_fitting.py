from dataclasses import replace

import pytest
import synthetic_head as synthetic
import torch

from magicportrait_core.head.skinning import axis_angle_to_matrix
from magicportrait_core.tracking.blendshape_prior import lid_coefficient
from magicportrait_core.tracking.box_solver import solve_in_box
from magicportrait_core.tracking.fitting import FitOptions, fit_track, focal_length
from magicportrait_core.tracking.landmark_model import BROW_LIFT, BROWS, landmark_model
from magicportrait_core.tracking.rigid import similarity_transform

PRECISE = FitOptions(shape_prior=1e-6, expression_prior=1e-5, smoothness=0.0, shape_steps=12, frame_steps=4)


@pytest.fixture(scope="module", params=[True, False], ids=["arkit", "flame_like"])
def head(request):
    return synthetic.synthetic_head(arkit=request.param)


def test_a_camera_of_90_degrees_has_a_focal_length_of_half_the_height():
    assert focal_length(90.0, 400) == pytest.approx(200.0)


def test_similarity_of_points_that_were_turned_scaled_and_moved_is_found_exactly():
    source = torch.randn(20, 3, dtype=torch.float64)
    turn = axis_angle_to_matrix(torch.tensor([[0.3, -1.2, 0.4]], dtype=torch.float64))
    target = 2.5 * source @ turn.transpose(-1, -2) + torch.tensor([1.0, 2.0, 3.0])
    scale, rotation, shift = similarity_transform(source, target, torch.rand(20, dtype=torch.float64))
    assert scale.item() == pytest.approx(2.5)
    torch.testing.assert_close(rotation, turn)
    torch.testing.assert_close(shift, torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64))


def test_a_mirror_image_is_met_by_a_proper_rotation():
    source = torch.randn(20, 3, dtype=torch.float64)
    _, rotation, _ = similarity_transform(
        source, (source * torch.tensor([-1.0, 1, 1]))[None], torch.ones(20).double()
    )
    assert torch.linalg.det(rotation).item() == pytest.approx(1.0)


def test_box_solver_stops_at_the_wall_and_moves_the_rest_to_its_new_best_place():
    # x^2 + y^2 + x y - 3 x with x <= 1: at x = 1 the best y is -1/2
    matrix = torch.tensor([[[2.0, 1.0], [1.0, 2.0]]], dtype=torch.float64)
    right = torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    low, high = torch.full((1, 2), -9.0).double(), torch.tensor([[1.0, 9.0]]).double()
    step = solve_in_box(matrix, right, low, high)
    torch.testing.assert_close(step, torch.tensor([[1.0, -0.5]], dtype=torch.float64))


def test_landmark_model_agrees_with_the_mesh(head):
    track = synthetic.synthetic_track(head)
    model = landmark_model(head, head.num_shape, 0.003)
    pose = track.pose.clone()
    pose[:, 0] = 0
    mesh = head.landmark_points(head.vertices(track.shape, track.expression, pose)).double()
    if head.jaw_in_expression:  # the network sees brows on their hairs, higher up
        mesh[:, list(BROWS)] += synthetic.EYE_DISTANCE * torch.tensor(BROW_LIFT).double()
    ours = (
        model.points(track.shape[0].double(), track.expression.double(), pose[:, 2].double()) + model.centre
    )
    torch.testing.assert_close(ours, mesh, rtol=0, atol=1e-6)


def test_landmark_model_knows_how_its_points_move(head):
    track = synthetic.synthetic_track(head, frames=1)
    model = landmark_model(head, head.num_shape, 0.003)
    shape, expression, jaw = track.shape[0].double(), track.expression.double(), track.pose[:, 2].double()
    basis = model.motion_basis(shape, expression, jaw)
    small = 1e-6
    nudged = expression.clone()
    nudged[0, 3] += small
    by_difference = (model.points(shape, nudged, jaw) - model.points(shape, expression, jaw)) / small
    torch.testing.assert_close(by_difference, basis[..., 3], rtol=1e-4, atol=1e-7)
    other = shape.clone()
    other[2] += small
    by_difference = (model.points(other, expression, jaw) - model.points(shape, expression, jaw)) / small
    torch.testing.assert_close(by_difference[0], model.shape_basis(jaw)[0, ..., 2], rtol=1e-4, atol=1e-7)


def test_a_person_is_recovered_from_exact_landmarks(head):
    truth = synthetic.facing_camera(head, synthetic.synthetic_track(head))
    fit = fit_track(head, synthetic.observe(head, truth), PRECISE)
    assert fit.error.max() < 0.02
    torch.testing.assert_close(fit.shape, truth.shape, rtol=0, atol=0.05)
    torch.testing.assert_close(fit.pose[:, 0], truth.pose[:, 0], rtol=0, atol=3e-3)
    torch.testing.assert_close(fit.pose[:, 2], truth.pose[:, 2], rtol=0, atol=1e-2)
    torch.testing.assert_close(fit.camera.places(), truth.camera.places(), rtol=0, atol=5e-3)
    seen, shown = synthetic.landmarks_of(head, fit), synthetic.landmarks_of(head, truth)
    assert (seen - shown)[..., :2].norm(dim=-1).max() < 0.1  # pixels


def test_works_under_inference_mode_and_twice_the_same(head):
    observed = synthetic.observe(head, synthetic.synthetic_track(head, frames=3))
    first = fit_track(head, observed)
    with torch.inference_mode():
        second = fit_track(head, observed)
    assert torch.equal(first.expression, second.expression) and torch.equal(first.pose, second.pose)


def test_chunks_do_not_change_the_result(head):
    observed = synthetic.observe(head, synthetic.synthetic_track(head, frames=7))
    whole, parts = (
        fit_track(head, observed, FitOptions(chunk=64)),
        fit_track(head, observed, FitOptions(chunk=2)),
    )
    torch.testing.assert_close(whole.expression, parts.expression, rtol=0, atol=1e-5)
    torch.testing.assert_close(whole.shape, parts.shape, rtol=0, atol=1e-5)


def test_a_few_frames_give_the_shape_of_a_long_clip():
    head = synthetic.synthetic_head()
    truth = synthetic.facing_camera(head, synthetic.synthetic_track(head, frames=24))
    fit = fit_track(head, synthetic.observe(head, truth), replace(PRECISE, shape_frames=8))
    torch.testing.assert_close(fit.shape, truth.shape, rtol=0, atol=0.1)
    assert fit.error.max() < 0.05


def test_a_moment_that_is_shown_twice_is_fitted_once():
    head = synthetic.synthetic_head()
    once = synthetic.observe(head, synthetic.synthetic_track(head, frames=4))
    twice = once[torch.tensor([0, 1, 1, 1, 2, 3])]
    short, long = fit_track(head, once), fit_track(head, twice)
    for name in ("expression", "pose", "error"):
        assert torch.equal(getattr(long, name), getattr(short, name)[[0, 1, 1, 1, 2, 3]])


def test_frames_without_a_face_stay_empty_and_the_others_are_fitted():
    head = synthetic.synthetic_head()
    truth = synthetic.synthetic_track(head, frames=4)
    fit = fit_track(head, synthetic.observe(head, truth, torch.tensor([True, False, True, True])))
    assert fit.found.tolist() == [True, False, True, True]
    assert fit.pose[1].isnan().all() and fit.expression[[0, 2, 3]].isfinite().all()
    assert fit.confidence[1] == 0 and not fit.complete


def test_expressions_keep_to_the_limits_of_the_head():
    head = synthetic.synthetic_head()
    truth = synthetic.synthetic_track(head, frames=3)
    truth = replace(truth, expression=truth.expression * 4 - 1)  # far out of 0..1
    fit = fit_track(head, synthetic.observe(head, truth))
    assert fit.expression.min() >= 0 and fit.expression.max() <= 1


def test_a_landmark_gone_astray_hardly_matters():
    head = synthetic.synthetic_head()
    truth = synthetic.synthetic_track(head, frames=3)
    observed = synthetic.observe(head, truth)
    points = observed.points.clone()
    points[:, 100, :2] += 80
    fit = fit_track(head, replace(observed, points=points), PRECISE)
    clean = fit_track(head, observed, PRECISE)
    assert (fit.pose - clean.pose).abs().max() < 0.02


def test_fewer_shape_coefficients_leave_the_others_zero():
    head = synthetic.synthetic_head()
    fit = fit_track(head, synthetic.observe(head, synthetic.synthetic_track(head)), FitOptions(max_shape=2))
    assert fit.shape.shape == (1, 6) and fit.shape[0, 2:].abs().max() == 0


def test_steps_are_reported_and_cancelling_is_passed_on():
    head = synthetic.synthetic_head()
    observed = synthetic.observe(head, synthetic.synthetic_track(head, frames=2))
    steps = []
    fit_track(head, observed, on_step=lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))

    def cancel(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_track(head, observed, on_step=cancel)


def test_sentences():
    head = synthetic.synthetic_head()
    truth = synthetic.synthetic_track(head, frames=2)
    nothing = synthetic.observe(head, truth, torch.tensor([False, False]))
    with pytest.raises(ValueError, match="no face was found in any of the 2 frames"):
        fit_track(head, nothing)
    with pytest.raises(ValueError, match="head 'synthetic' has no landmark places.*calibrate"):
        fit_track(replace(head, landmarks=None), synthetic.observe(head, truth))
    with pytest.raises(ValueError, match="field_of_view=0 degrees; expected 1 to 120"):
        FitOptions(field_of_view=0)
    with pytest.raises(ValueError, match="shape_prior=-1; expected 0 or more"):
        FitOptions(shape_prior=-1)


def test_scores_of_blinks_are_read_as_the_network_gives_them():
    assert lid_coefficient(torch.tensor([0.0, 0.40, 0.62, 0.9])).tolist() == pytest.approx(
        [0.0, 0.5, 0.66, 1.0]
    )
