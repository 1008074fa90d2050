"""HeadModel: template + shape basis + expression basis + pose correctives, skinned over five joints.

FLAME and the open head are the same mathematics (FLAME: Li et al. 2017, section 3), so one class serves both.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .skinning import axis_angle_to_matrix, blend, joint_transforms, pose_features, skin

JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")
NUM_JOINTS = len(JOINT_NAMES)
REGIONS = ("skin", "upper_teeth", "lower_teeth", "tongue", "left_eye", "right_eye")  # HeadModel.regions
SKIN, UPPER_TEETH, LOWER_TEETH, TONGUE, LEFT_EYE, RIGHT_EYE = range(len(REGIONS))
IRIS_PARTS = ("none", "iris", "pupil")  # HeadModel.iris


@dataclass(frozen=True)
class LandmarkMap:
    """The 478 landmarks as points on the head's surface."""

    triangles: Tensor  # (478,) int64, -1 where a landmark has no place on this head
    barycentric: Tensor  # (478, 3)
    spread: Tensor  # (478,) metres, how far the landmark wandered in calibration; NaN where unmatched

    @property
    def matched(self) -> Tensor:  # (478,) bool
        return self.triangles >= 0

    def points(
        self,
        vertices: Tensor,  # (B, V, 3)
        faces: Tensor,  # (T, 3)
    ) -> Tensor:  # (B, 478, 3), NaN where a landmark has no place on this head
        corners = vertices[:, faces[self.triangles.clamp(min=0)]]  # (B, 478, 3 corners, 3)
        points = (corners * self.barycentric[..., None].to(vertices.dtype)).sum(2)
        return torch.where(self.matched[:, None], points, torch.full_like(points, torch.nan))

    def to(self, device: torch.device | str) -> LandmarkMap:
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True)
class HeadModel:
    """One head model's data.

    Head space: metres, x to the viewer's right (the person's left), y up, z to the viewer.
    """

    name: str
    licence: str
    template: Tensor  # (V, 3)
    shape_basis: Tensor  # (S, V, 3) for unit standard deviation
    expression_basis: Tensor  # (E, V, 3)
    pose_correctives: (
        Tensor | None
    )  # (36, V, 3): joints 1..4, (R - I) row-major; None where the head has none
    skin_weights: Tensor  # (V, 5)
    joints_template: Tensor  # (5, 3)
    joints_shape: Tensor  # (S, 5, 3)
    joints_expression: Tensor  # (E, 5, 3)
    parents: tuple[int, ...]  # (-1, 0, 1, 1, 1)
    faces: Tensor  # (T, 3) int64
    uvs: Tensor  # (U, 2), v up
    faces_uv: Tensor  # (T, 3) int64
    regions: Tensor  # (T,) int64, index into REGIONS
    expression_names: tuple[str, ...]  # ARKit names for the open head, "expression_0".. for FLAME
    landmarks: LandmarkMap | None
    expression_limits: tuple[float, float]  # (0, 1) for ARKit, (-inf, inf) for FLAME
    jaw_in_expression: bool  # True: the expression basis opens the mouth (ARKit jawOpen); False: pose[2] does
    mirror: Tensor  # (V,) int64, the vertex at the mirror image (x -> -x) of each vertex
    cavity: Tensor  # (T,) bool, skin inside the mouth: hidden while the lips are closed
    iris: Tensor  # (T,) int64, index into IRIS_PARTS
    eyelid_basis: Tensor | None = None  # (2, V, 3) left, right lid closed; FLAME has none of its own

    @property
    def num_vertices(self) -> int:
        return self.template.shape[0]

    @property
    def num_faces(self) -> int:
        return self.faces.shape[0]

    @property
    def num_shape(self) -> int:
        return self.shape_basis.shape[0]

    @property
    def num_expression(self) -> int:
        return self.expression_basis.shape[0]

    @property
    def device(self) -> torch.device:
        return self.template.device

    def to(self, device: torch.device | str) -> HeadModel:
        """The same head with every tensor on `device`."""
        moved = {
            f.name: value.to(device)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), (Tensor, LandmarkMap))
        }
        return replace(self, **moved)

    def expression_index(self, name: str) -> int:
        """The place of the expression `name`; a ValueError names close alternatives when it is missing."""
        if name not in self.expression_names:
            raise ValueError(
                f"head {self.name!r} has no expression {name!r}; it has {len(self.expression_names)}, "
                f"for example {', '.join(self.expression_names[:3])}"
            )
        return self.expression_names.index(name)

    def expressions(self, **values: float) -> Tensor:
        """One row of coefficients (1, E) from names: head.expressions(jawOpen=0.5)."""
        row = self.template.new_zeros(1, self.num_expression)
        for name, value in values.items():
            row[0, self.expression_index(name)] = value
        return row

    def rest_vertices(
        self,
        shape: Tensor,  # (B or 1, <= S) identity coefficients
        expression: Tensor,  # (B or 1, <= E)
    ) -> Tensor:  # (B, V, 3) before pose
        """The shaped and expressing head in the rest pose."""
        self._check("shape", shape, self.num_shape)
        self._check("expression", expression, self.num_expression)
        return self.template + blend(shape, self.shape_basis) + blend(expression, self.expression_basis)

    def rest_joints(self, shape: Tensor, expression: Tensor) -> Tensor:  # (B, 5, 3) before pose
        """The joints of the shaped and expressing head in the rest pose."""
        return (
            self.joints_template + blend(shape, self.joints_shape) + blend(expression, self.joints_expression)
        )

    def vertices(
        self,
        shape: Tensor,  # (B or 1, <= S) identity coefficients, standard deviations
        expression: Tensor,  # (B or 1, <= E)
        pose: Tensor | None = None,  # (B or 1, 5, 3) axis-angle, radians; None: rest pose
        offsets: Tensor | None = None,  # (V, 3) or (B, V, 3) metres, added in the rest pose
        eyelids: Tensor
        | None = None,  # (B or 1, 2) 0 open .. 1 closed; without effect on heads without basis
    ) -> Tensor:  # (B, V, 3) head space
        """The posed surface. Fewer coefficients than the basis has stand for zeros in the rest."""
        rest = self.rest_vertices(shape, expression)
        if offsets is not None:
            rest = rest + offsets
        if eyelids is not None and self.eyelid_basis is not None:
            rest = rest + blend(eyelids, self.eyelid_basis)
        if pose is None:
            return rest
        if pose.ndim != 3 or pose.shape[1:] != (NUM_JOINTS, 3):
            raise ValueError(
                f"pose has shape {tuple(pose.shape)}; expected (frames, {NUM_JOINTS}, 3) axis-angles of "
                f"{', '.join(JOINT_NAMES)}"
            )
        rotations = axis_angle_to_matrix(pose)
        if self.pose_correctives is not None:
            rest = rest + blend(pose_features(rotations), self.pose_correctives)
        joints = self.rest_joints(shape, expression)
        frames = max(rest.shape[0], pose.shape[0])
        transforms = joint_transforms(
            rotations.expand(frames, -1, -1, -1), joints.expand(frames, -1, -1), self.parents
        )
        return skin(rest.expand(frames, -1, -1), transforms, self.skin_weights)

    def landmark_points(
        self,
        vertices: Tensor,  # (B, V, 3)
    ) -> Tensor:  # (B, 478, 3), NaN where a landmark has no place on this head
        """The landmarks on a posed (or projected) surface."""
        if self.landmarks is None:
            raise ValueError(
                f"head {self.name!r} has no landmark map; make one with tracking.calibration.calibrate"
            )
        return self.landmarks.points(vertices, self.faces)

    def _check(self, what: str, coefficients: Tensor, most: int) -> None:
        if coefficients.ndim != 2 or coefficients.shape[1] > most:
            raise ValueError(
                f"{what} has shape {tuple(coefficients.shape)}; head {self.name!r} expects "
                f"(frames, at most {most}) coefficients"
            )
