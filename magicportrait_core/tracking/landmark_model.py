"""The head reduced to its landmarks: where they are for given coefficients, and how they move with each.

The mesh is linear in shape and expression before skinning, and so are weighted sums of its vertices. A
landmark is such a sum; with the jaw it is a still part plus a part turned about the jaw joint, both linear.
This is exact (it equals HeadModel.vertices followed by landmark_points) and a hundred times smaller than the
mesh.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..expression_groups import is_arkit
from ..head.model import HeadModel
from ..head.skinning import axis_angle_to_matrix, skew
from .observation import NUM_LANDMARKS

JAW = 2  # index of the joint
# Points that face each other across an opening: whether eyes and mouth are shut is seen in their distance,
# far more exactly than in the place of each.
LIDS = ((160, 144), (159, 145), (158, 153), (161, 163), (157, 154)) + (
    (387, 373),
    (386, 374),
    (385, 380),
    (388, 390),
    (384, 381),
)
LIPS = ((13, 14), (82, 87), (312, 317), (81, 178), (311, 402), (80, 88), (310, 318))
LARGEST_SPREAD = 0.02  # metres; a landmark that wandered further in calibration has no place on the head
JAW_CORRECTIVES = slice(9, 18)  # rows of HeadModel.pose_correctives that follow the jaw

# The network finds brow points on the hairs. A render without hairs has them on the bare ridge below:
# on eight real people they lie this far higher and further back, share of the outer-eye distance. Without the
# lift every fit raises its brows, and a real raise has no room left.
BROWS = (46, 52, 53, 55, 63, 65, 66, 70, 105, 107, 276, 282, 283, 285, 293, 295, 296, 300, 334, 336)
BROW_LIFT = (0.0, 0.03, -0.01)


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
    pairs: Tensor  # (P, 2) int64, places in `index` of points that face each other across an opening
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
    used = (places.triangles >= 0) & (places.spread < LARGEST_SPREAD)
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
    whole = replace(whole, template=whole.template + _double(brow_lift(head))[index])
    return LandmarkModel(
        index=index,
        weight=1 / (1 + (_double(places.spread)[index] / spread_scale) ** 2),
        pairs=_pairs(index),
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


def brow_lift(head: HeadModel) -> Tensor:  # (478, 3) metres, head at rest
    """How far the network sees each landmark from its place on the head; zero but for brows."""
    lift = head.template.new_zeros(NUM_LANDMARKS, 3)
    if is_arkit(head.expression_names):
        lift[list(BROWS)] = _eye_distance(head) * lift.new_tensor(BROW_LIFT)
    return lift


def _pairs(index: Tensor) -> Tensor:
    place = {landmark: i for i, landmark in enumerate(index.tolist())}
    pairs = [(place[a], place[b]) for a, b in LIDS + LIPS if a in place and b in place]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()


def _eye_distance(head: HeadModel) -> float:
    corners = head.landmark_points(head.template[None])[0, [33, 263]]
    distance = (corners[0] - corners[1]).norm().item()
    if not distance > 0:
        raise ValueError(
            f"head {head.name!r} lacks the outer eye corners (landmarks 33 and 263); calibrate its "
            "landmarks again"
        )
    return distance
