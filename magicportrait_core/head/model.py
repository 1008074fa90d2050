"""HeadModel: template + shape basis + expression basis + pose correctives, skinned over five joints.

FLAME and the open head are the same mathematics (FLAME: Li et al. 2017, section 3), so one class serves both.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")
REGIONS = ("skin", "upper_teeth", "lower_teeth", "tongue", "left_eye", "right_eye")  # HeadModel.regions


@dataclass(frozen=True)
class LandmarkMap:
    """The 478 landmarks as points on the head's surface."""

    triangles: Tensor  # (478,) int64, -1 where a landmark has no place on this head
    barycentric: Tensor  # (478, 3)
    spread: Tensor  # (478,) metres, how far the landmark wandered in calibration; NaN where unmatched


@dataclass(frozen=True)
class HeadModel:
    """One head model's data. Head space: metres, x to the viewer's right (person's left), y up, z to the viewer."""

    name: str
    licence: str
    template: Tensor  # (V, 3)
    shape_basis: Tensor  # (S, V, 3) for unit standard deviation
    expression_basis: Tensor  # (E, V, 3)
    pose_correctives: Tensor | None  # (36, V, 3): joints 1..4, (R - I) row-major; None where the head has none
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
