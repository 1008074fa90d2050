"""Where a landmark network should see a fitted head, to compare with where it did."""

from __future__ import annotations

from torch import Tensor

from ..head.model import HeadModel
from ..head.skinning import axis_angle_to_matrix
from .landmark_model import LARGEST_SPREAD, brow_lift
from .track import FaceTrack

OUTER_EYES = (33, 263)  # landmarks


def expected_landmarks(
    head: HeadModel,
    track: FaceTrack,  # complete
) -> Tensor:  # (F, 478, 2) pixels; NaN where a landmark has no place on this head
    """The landmarks of the tracked head in the picture, brows on their hairs (see BROW_LIFT)."""
    points = head.landmark_points(head.vertices(track.shape, track.expression, track.pose))
    turn = axis_angle_to_matrix(track.pose[:, :2])
    skull = turn[:, 0] @ turn[:, 1]
    lift = brow_lift(head).to(points)  # (478, 3) at rest
    return track.camera.project(points + lift @ skull.transpose(-1, -2))[..., :2]


def landmark_errors(
    head: HeadModel,
    track: FaceTrack,  # complete
    points: Tensor,  # (F, 478, 3) pixels, as the network saw them
) -> Tensor:  # (F, 478) percent of the clip's mean outer-eye distance in the picture
    """Distance between expected and seen landmarks; NaN without a place or a face."""
    first, second = (points[:, i, :2] for i in OUTER_EYES)
    distance = (first - second).norm(dim=-1).nanmean()
    return 100 * (expected_landmarks(head, track) - points[..., :2]).norm(dim=-1) / distance


def mean_error(
    head: HeadModel,
    errors: Tensor,  # (F, 478)
    largest_spread: float = LARGEST_SPREAD,
) -> float:
    """Mean over the landmarks that calibration pinned to within `largest_spread` metres, by default all that
    the fit uses (all but a few of the jaw line beside the ears).
    """
    chosen = (head.landmarks.triangles >= 0) & (head.landmarks.spread < largest_spread)
    return float(errors[:, chosen.to(errors.device)].nanmean())
