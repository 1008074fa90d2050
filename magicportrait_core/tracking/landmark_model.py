"""The head reduced to its landmarks: where they are for given coefficients, and how they move with each.

The mesh is linear in shape and expression before skinning, and so are weighted sums of its vertices. A
landmark is such a sum; with the jaw it is a still part plus a part turned about the jaw joint, both linear.
This is exact (it equals HeadModel.vertices followed by landmark_points) and a hundred times smaller than the
mesh.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..head.model import HeadModel
from ..head.skinning import axis_angle_to_matrix, skew

JAW = 2  # index of the joint
JAW_CORRECTIVES = slice(9, 18)  # rows of HeadModel.pose_correctives that follow the jaw


@dataclass(frozen=True)
class Basis:
    """Points that are linear in shape, expression and jaw correctives."""

    template: Tensor  # (K, 3)
    shape: Tensor  # (K, 3, S)
    expression: Tensor  # (K, 3, E)
    corrective: Tensor | None  # (K, 3, 9), for the jaw's (R - I) row-major

    def points(
        self,
        shape: Tensor,  # (S,)
        expression: Tensor,  # (F, E)
        jaw_turn: Tensor | None = None,  # (F, 3, 3)
    ) -> Tensor:  # (F, K, 3)
        person = self.template + self.shape @ shape
        moved = person + (expression @ self.expression.flatten(0, 1).T).unflatten(-1, person.shape)
        if self.corrective is not None and jaw_turn is not None:
            features = (jaw_turn - torch.eye(3).to(jaw_turn)).flatten(1)
            moved = moved + (features @ self.corrective.flatten(0, 1).T).unflatten(-1, person.shape)
        return moved


@dataclass(frozen=True)
class LandmarkModel:
    """K landmarks of a head whose root and neck are at rest, about the point `centre`."""

    index: Tensor  # (K,) int64, which of the 478 landmarks
    weight: Tensor  # (K,) 0..1, how well the landmark is tied to the surface
    whole: Basis  # the landmark without jaw turn
    hinged: Basis | None  # the share of it that the jaw carries; None where the expression opens the mouth
    hinged_share: Tensor  # (K,) skin weight of the jaw
    joints: Basis  # (5, 3) rest joints; corrective None
    centre: Tensor  # (3,) mean landmark of the template: turning about it keeps rotation and place apart
    eye_distance: float  # metres between the outer eye corners of the template

    @property
    def jaw(self) -> bool:
        return self.hinged is not None

    def points(
        self,
        shape: Tensor,  # (S,)
        expression: Tensor,  # (F, E)
        jaw: Tensor,  # (F, 3) axis-angle
    ) -> Tensor:  # (F, K, 3) metres from `centre`
        if self.hinged is None:
            return self.whole.points(shape, expression) - self.centre
        turn = axis_angle_to_matrix(jaw)
        joint = self.joints.points(shape, expression)[:, JAW]  # (F, 3)
        part = self.hinged.points(shape, expression, turn)
        arm = part - self.hinged_share[:, None] * joint[:, None]
        whole = self.whole.points(shape, expression, turn)
        return whole + arm @ (turn.transpose(-1, -2) - torch.eye(3).to(turn)) - self.centre

    def motion_basis(
        self,
        shape: Tensor,  # (S,)
        expression: Tensor,  # (F, E)
        jaw: Tensor,  # (F, 3)
    ) -> Tensor:  # (F or 1, K, 3, E or E + 3): derivative by expression, then by a small jaw turn (left)
        if self.hinged is None:
            return self.whole.expression[None]
        turn = axis_angle_to_matrix(jaw)
        joint = self.joints.points(shape, expression)[:, JAW]
        arm = self.hinged.points(shape, expression, turn) - self.hinged_share[:, None] * joint[:, None]
        by_jaw = -skew(arm @ turn.transpose(-1, -2))  # (F, K, 3, 3)
        return torch.cat((self._turned("expression", turn), by_jaw), -1)

    def shape_basis(
        self,
        jaw: Tensor,  # (F, 3)
    ) -> Tensor:  # (F or 1, K, 3, S): derivative by shape
        if self.hinged is None:
            return self.whole.shape[None]
        return self._turned("shape", axis_angle_to_matrix(jaw))

    def _turned(self, which: str, turn: Tensor) -> Tensor:
        """Columns of a basis whose hinged part is turned by the jaw."""
        hinged, joint = getattr(self.hinged, which), getattr(self.joints, which)[JAW]
        arm = hinged - self.hinged_share[:, None, None] * joint
        extra = (turn - torch.eye(3).to(turn))[:, None] @ arm  # (F, K, 3, N)
        return getattr(self.whole, which) + extra


def landmark_model(
    head: HeadModel,
    num_shape: int,
    spread_scale: float,  # metres of calibration spread at which a landmark counts half
    ignore: tuple[int, ...] = (),
) -> LandmarkModel:
    """The landmarks of `head`, in float64 on the CPU (normal equations square the condition number)."""
    if head.landmarks is None:
        raise ValueError(
            f"head {head.name!r} has no landmark places, so no face can be fitted with it; calibrate it "
            "once with "
            "scripts/calibrate_landmarks.py"
        )
    places = head.landmarks
    used = (places.triangles >= 0) & places.spread.isfinite()
    used[list(ignore)] = False
    index = used.nonzero().squeeze(1).cpu()
    corners = head.faces[places.triangles.to(head.faces.device)[index]].cpu()  # (K, 3)
    barycentric = _double(places.barycentric)[index]  # (K, 3)
    jaw_share = _double(head.skin_weights)[corners, JAW]  # (K, 3)
    shape_basis, expression_basis = head.shape_basis[:num_shape], head.expression_basis
    correctives = None if head.pose_correctives is None else head.pose_correctives[JAW_CORRECTIVES]

    def gather(weights: Tensor) -> Basis:
        def columns(basis: Tensor) -> Tensor:  # (N, V, 3) -> (K, 3, N)
            return (_double(basis[:, corners]) * weights[..., None]).sum(2).permute(1, 2, 0).contiguous()

        still = columns(head.template[None]).squeeze(-1)
        extra = None if correctives is None or head.jaw_in_expression else columns(correctives)
        return Basis(still, columns(shape_basis), columns(expression_basis), extra)

    whole = gather(barycentric)
    return LandmarkModel(
        index=index,
        weight=1 / (1 + (_double(places.spread)[index] / spread_scale) ** 2),
        whole=whole,
        hinged=None if head.jaw_in_expression else gather(barycentric * jaw_share),
        hinged_share=(barycentric * jaw_share).sum(1),
        joints=Basis(
            _double(head.joints_template),
            _double(head.joints_shape[:num_shape]).permute(1, 2, 0),
            _double(head.joints_expression).permute(1, 2, 0),
            None,
        ),
        centre=whole.template.mean(0),
        eye_distance=_eye_distance(head),
    )


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64)


def _eye_distance(head: HeadModel) -> float:
    corners = head.landmark_points(head.template[None])[0, [33, 263]]
    distance = (corners[0] - corners[1]).norm().item()
    if not distance > 0:
        raise ValueError(
            f"head {head.name!r} lacks the outer eye corners (landmarks 33 and 263); calibrate its "
            "landmarks again"
        )
    return distance
