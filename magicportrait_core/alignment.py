"""Structured Face Alignment: the portrait keeps its person, camera and place, and gets the driver's motion.

`absolute` is the paper's rule (section 3.2): shape, texture, light and camera of the portrait; expression,
jaw and head rotation of the driver. `relative` adds the driver's change since its neutral frame to the
portrait's own expression and rotation, so that a smiling portrait stays itself. `auto` is relative, except
that a portrait turned away takes the driver's rotation as it is: adding to it would turn the face out of the
picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from .expression_groups import group_of, is_arkit
from .head.skinning import axis_angle_to_matrix, matrix_to_axis_angle
from .rendering.camera import Camera
from .tracking.rotations import angle_between, euler_degrees, slerp
from .tracking.track import FaceTrack

Mode = Literal["absolute", "relative", "auto"]
Carry = Literal["auto", "neck", "whole"]

TURNED_PORTRAIT = 15.0  # degrees of yaw from which `auto` takes the driver's rotation as it is
TRUSTED_YAW, TRUSTED_CHANGE = 50.0, 25.0  # degrees; beyond, a portrait shows too little of the revealed side
NEUTRAL_TURN = 0.35  # radians away from the portrait's rotation that weigh as much as one full expression
NEUTRAL_WEIGHT = {"jaw": 8.0, "brows": 0.5, "gaze": 0.3}  # how much a group speaks against a frame; others 1
UNNAMED_WEIGHT = 0.04  # a Gaussian basis has larger coefficients than ARKit's 0..1
JAW_OPEN = 0.42  # radians of a wide open mouth
CLIPPED = 0.25  # a coefficient that would go this far beyond its range is worth a warning
NECK, JAW, LEFT_EYE = 1, 2, 3  # rows of FaceTrack.pose


@dataclass(frozen=True)
class StructuredFaceAlignment:
    """Strengths: 0 leaves the portrait's own value exactly, 1 gives the driver's, or adds its change."""

    mode: Mode = "auto"
    neutral_frame: int | None = None  # the driver's frame that stands for rest; None: found automatically
    strength: float = 1.0  # multiplies all strengths below
    head: float = 1.0  # rotation
    jaw: float = 1.0
    mouth: float = 1.0
    brows: float = 1.0
    lids: float = 1.0
    gaze: float = 1.0
    # What turns: the head on its neck, so that shoulders stay, or the whole bust, as released with FLAME.
    # auto: neck for heads with ARKit names (the open head), whole for others.
    carry: Carry = "auto"
    follow_place: float = 0.0  # how much of the driver's moves across the picture and towards it to follow
    max_yaw: float | None = None  # degrees; turn the head no further than this from the viewer
    max_change: float | None = None  # degrees; turn it no further than this from the portrait

    def __post_init__(self):
        if self.mode not in ("absolute", "relative", "auto"):
            raise ValueError(f"mode={self.mode!r}; expected absolute, relative or auto")
        if self.carry not in ("auto", "neck", "whole"):
            raise ValueError(f"carry={self.carry!r}; expected neck (shoulders stay), whole or auto")
        for name in ("strength", "head", "jaw", "mouth", "brows", "lids", "gaze", "follow_place"):
            if not 0 <= getattr(self, name) <= 3:
                raise ValueError(
                    f"strength {name}={getattr(self, name)}; expected 0 (portrait) to 1 (driver), at most 3"
                )
        for name in ("max_yaw", "max_change"):
            limit = getattr(self, name)
            if limit is not None and not 0 <= limit <= 180:
                raise ValueError(f"{name}={limit} degrees; expected 0 to 180, or nothing for no limit")


@dataclass(frozen=True)
class Alignment:
    """The aligned track and what the user should know about it."""

    track: FaceTrack
    warnings: tuple[str, ...]
    neutral_frame: int | None  # None in absolute mode
    absolute_rotation: bool


def align_track(
    portrait: FaceTrack, driving: FaceTrack, options: StructuredFaceAlignment | None = None
) -> FaceTrack:
    """The portrait's person, camera and place with the driver's motion; as many frames as the driver."""
    return align(portrait, driving, options).track


def align(
    portrait: FaceTrack, driving: FaceTrack, options: StructuredFaceAlignment | None = None
) -> Alignment:
    """As `align_track`, with warnings about motion that a single portrait can hardly show."""
    options = options or StructuredFaceAlignment()
    _check(portrait, driving, options)
    driving = driving.to(portrait.pose.device)
    portrait_yaw = euler_degrees(head_rotation(portrait))[0, 0].item()
    relative = options.mode != "absolute"
    turned = options.mode == "auto" and abs(portrait_yaw) > TURNED_PORTRAIT
    neutral = _neutral_frame(portrait, driving, options, turned) if relative else None
    rotation = _rotation(portrait, driving, options, neutral if not turned else None)
    rotation, limited = _limit(portrait, rotation, options)
    expression, clipped = _expression(portrait, driving, options, neutral)
    track = replace(
        portrait,
        expression=expression,
        pose=_pose(portrait, driving, options, neutral, rotation),
        eyelids=_blend(portrait.eyelids, driving.eyelids, neutral, options.strength * options.lids),
        camera=_camera(portrait, driving, options, neutral),
        fps=driving.fps,
        confidence=driving.confidence,
        found=driving.found,
        error=torch.full_like(driving.error, torch.nan),
        landmarks=None,
        covered=None,
    )
    warnings = _warnings(track, portrait, driving, turned, limited, clipped)
    return Alignment(track, warnings, neutral, not relative or turned)


def head_rotation(track: FaceTrack) -> Tensor:  # (F, 3, 3)
    """The skull's rotation in camera space: view, root and neck together."""
    turn = axis_angle_to_matrix(track.pose[:, :2])
    return track.camera.view[..., :3] @ turn[:, 0] @ turn[:, 1]


def neutral_frame(portrait: FaceTrack, driving: FaceTrack, absolute_rotation: bool = False) -> int:
    """The driver's frame with the least expression whose head is turned most like the portrait's.

    With absolute rotation the frame stands for expression only, and is sought where the driver faces the
    viewer.
    """
    names = driving.expression_names
    if is_arkit(names):
        weight = driving.expression.new_tensor([NEUTRAL_WEIGHT.get(group_of(n), 1.0) for n in names])
    else:
        weight = torch.full_like(driving.expression[0], UNNAMED_WEIGHT)
    cost = (driving.expression**2 * weight).sum(1)
    cost = cost + NEUTRAL_WEIGHT["jaw"] * (driving.pose[:, JAW] / JAW_OPEN).square().sum(1)
    turn = head_rotation(driving)
    rest = torch.eye(3).to(turn) if absolute_rotation else head_rotation(portrait)
    cost = cost + (angle_between(turn, rest.expand_as(turn)) / NEUTRAL_TURN) ** 2
    if driving.found.any():  # a filled frame is a guess
        cost = torch.where(driving.found, cost, torch.full_like(cost, torch.inf))
    return int(cost.argmin())


def _neutral_frame(
    portrait: FaceTrack, driving: FaceTrack, options: StructuredFaceAlignment, turned: bool
) -> int:
    if options.neutral_frame is None:
        return neutral_frame(portrait, driving, turned)
    if not 0 <= options.neutral_frame < driving.num_frames:
        raise ValueError(
            f"neutral_frame={options.neutral_frame}, but the driving track has frames 0 to "
            f"{driving.num_frames - 1}; choose one of them, or leave it automatic"
        )
    return options.neutral_frame


def _blend(own: Tensor, driver: Tensor, neutral: int | None, strength: float | Tensor) -> Tensor:
    """Values (F, ...) between the portrait's (1, ...) and the driver's, or with the driver's change added."""
    own = own.expand_as(driver)
    strength = torch.as_tensor(strength, dtype=own.dtype, device=own.device)
    if neutral is None:
        moved = torch.lerp(own, driver, strength.expand_as(own))
    else:
        moved = own + strength * (driver - driver[neutral])
    return torch.where(strength == 0, own, moved)


def _expression(
    portrait: FaceTrack, driving: FaceTrack, options: StructuredFaceAlignment, neutral: int | None
) -> tuple[Tensor, int]:
    """Coefficients (F, E), and in how many frames a coefficient had to be kept within 0..1."""
    names = portrait.expression_names
    arkit = is_arkit(names)
    groups = [group_of(n) for n in names] if arkit else ["mouth"] * portrait.expression.shape[1]
    strength = options.strength * portrait.expression.new_tensor([getattr(options, g) for g in groups])
    wanted = _blend(portrait.expression, driving.expression, neutral, strength)
    if not arkit:
        return wanted, 0
    limited = torch.where(strength == 0, wanted, wanted.clamp(0, 1))
    return limited, int(((wanted - limited).abs() > CLIPPED).any(1).sum())


def _rotation(
    portrait: FaceTrack, driving: FaceTrack, options: StructuredFaceAlignment, neutral: int | None
) -> Tensor:  # (F, 3, 3) wanted rotation of the skull in camera space
    strength = options.strength * options.head
    own, driver = head_rotation(portrait), head_rotation(driving)
    amount = own.new_full((driving.num_frames,), strength)
    if neutral is None:
        return slerp(own.expand_as(driver), driver, amount)
    change = driver @ driver[neutral].T
    return slerp(torch.eye(3).to(change).expand_as(change), change, amount) @ own


def _limit(portrait: FaceTrack, rotation: Tensor, options: StructuredFaceAlignment) -> tuple[Tensor, int]:
    """Rotations led back towards the portrait's until they keep the limits, and how many were."""
    own = head_rotation(portrait).expand_as(rotation)
    amount = torch.ones_like(rotation[:, 0, 0])
    if options.max_change is not None:
        change = torch.rad2deg(angle_between(own, rotation))
        amount = torch.minimum(amount, options.max_change / change.clamp(min=1e-6))
    if options.max_yaw is not None:
        # A portrait that is turned further than the limit may stay so, but turns no further.
        limit = max(options.max_yaw, abs(euler_degrees(own)[0, 0].item()) + 1e-3)
        low, high = torch.zeros_like(amount), amount
        too_far = euler_degrees(slerp(own, rotation, amount))[:, 0].abs() > limit
        for _ in range(16):
            middle = (low + high) / 2
            fits = euler_degrees(slerp(own, rotation, middle))[:, 0].abs() <= limit
            low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
        amount = torch.where(too_far, low, amount)
    changed = amount < 1
    limited = torch.where(changed[:, None, None], slerp(own, rotation, amount), rotation)
    return limited, int(changed.sum())


def _pose(
    portrait: FaceTrack,
    driving: FaceTrack,
    options: StructuredFaceAlignment,
    neutral: int | None,
    rotation: Tensor,
) -> Tensor:  # (F, 5, 3)
    pose = portrait.pose.expand(driving.num_frames, -1, -1).clone()
    if options.strength * options.head != 0:
        root, neck = axis_angle_to_matrix(portrait.pose[0, :2])
        upright = portrait.camera.view[0, :, :3].T @ rotation  # head space
        if options.carry == "neck" or (options.carry == "auto" and is_arkit(portrait.expression_names)):
            pose[:, NECK] = matrix_to_axis_angle(root.T @ upright)
        else:
            pose[:, 0] = matrix_to_axis_angle(upright @ neck.T)
    for rows, strength in ((slice(JAW, JAW + 1), options.jaw), (slice(LEFT_EYE, None), options.gaze)):
        pose[:, rows] = _blend(
            portrait.pose[:, rows], driving.pose[:, rows], neutral, options.strength * strength
        )
    return pose


def _camera(
    portrait: FaceTrack, driving: FaceTrack, options: StructuredFaceAlignment, neutral: int | None
) -> Camera:
    """The portrait's camera; with `follow_place` the head moves as the driver's does, in metres, scaled in
    depth (in size, where the camera is orthographic).
    """
    camera = portrait.camera.expand(driving.num_frames)
    strength = options.strength * options.follow_place
    if strength == 0:
        return camera
    start = neutral if neutral is not None else 0
    place, aim, distance = _place(driving.camera)
    change = (distance / distance[start]).clamp(0.2, 5.0) ** strength
    camera = _centred(camera)
    aside = camera.aims() * (1 - change[:, None]) + strength * (aim - aim[start])
    view, intrinsics = camera.view.clone(), camera.intrinsics.clone()
    view[:, :2, 3] += strength * (place - place[start])
    if camera.projection == "orthographic":
        intrinsics[:, 0] /= change
    else:
        view[:, 2, 3] *= change
    return replace(camera, view=view, intrinsics=intrinsics).aimed_aside(aside)


def _place(camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Metres (F, 2) across the picture from the camera's axis, of that axis from the picture's middle (their
    sum is the head's place), and the distance (F,) up to a factor."""
    camera = _centred(camera)
    orthographic = camera.projection == "orthographic"
    distance = 1 / camera.intrinsics[:, 0] if orthographic else camera.view[:, 2, 3]
    return camera.view[:, :2, 3], camera.aims(), distance


def _centred(camera: Camera) -> Camera:
    return camera.centred() if camera.projection == "orthographic" else camera


def _check(portrait: FaceTrack, driving: FaceTrack, options: StructuredFaceAlignment) -> None:
    if portrait.num_frames != 1:
        raise ValueError(
            f"the portrait's track has {portrait.num_frames} frames; expected one picture: choose a frame "
            "of it"
        )
    if portrait.head != driving.head:
        raise ValueError(
            f"the portrait was tracked with head {portrait.head!r} and the driving video with "
            f"{driving.head!r}; "
            "track both with the same head"
        )
    if portrait.expression.shape[1] != driving.expression.shape[1]:
        raise ValueError(
            f"the portrait's track has {portrait.expression.shape[1]} expression coefficients and the "
            "driving "
            f"track {driving.expression.shape[1]}; track both with the same version of head {portrait.head!r}"
        )
    for name, track in (("portrait", portrait), ("driving", driving)):
        if not track.complete:
            raise ValueError(
                f"the {name} track has frames without a face; fill them first (hold or interpolate) or cut "
                "them away"
            )
    if not is_arkit(portrait.expression_names) and not options.brows == options.lids == options.mouth:
        raise ValueError(
            f"mouth={options.mouth}, brows={options.brows} and lids={options.lids} differ, but head "
            f"{portrait.head!r} does not name its expressions, so they cannot be told apart; set the three "
            "alike, "
            "or track with the open head"
        )


def _warnings(
    track: FaceTrack, portrait: FaceTrack, driving: FaceTrack, turned: bool, limited: int, clipped: int
) -> tuple[str, ...]:
    rotation, own = head_rotation(track), head_rotation(portrait)
    angles = euler_degrees(rotation)
    yaw, change = angles[:, 0].abs(), torch.rad2deg(angle_between(own.expand_as(rotation), rotation))
    total, said = track.num_frames, []
    if turned:
        said.append(
            f"the portrait is turned by {euler_degrees(own)[0, 0].item():.0f} degrees, so it takes the "
            "driver's head "
            "rotation as it is (mode auto)"
        )
    if (yaw > TRUSTED_YAW).any():
        said.append(
            f"the head turns up to {yaw.max().item():.0f} degrees from the viewer (more than "
            f"{TRUSTED_YAW:.0f} in "
            f"{int((yaw > TRUSTED_YAW).sum())} of {total} frames); lower the head strength or set max_yaw"
        )
    if (change > TRUSTED_CHANGE).any():
        said.append(
            f"the head turns up to {change.max().item():.0f} degrees away from the portrait (more than "
            f"{TRUSTED_CHANGE:.0f} in {int((change > TRUSTED_CHANGE).sum())} of {total} frames), showing "
            "skin the "
            "portrait does not; lower the head strength, or use a portrait turned like the driver"
        )
    if limited:
        said.append(f"head rotation was limited in {limited} of {total} frames")
    if clipped:
        said.append(
            f"expressions went beyond the head's range and were limited in {clipped} of {total} frames"
        )
    missing = int((~driving.found).sum())
    if missing:
        said.append(f"{missing} of {total} driving frames had no face and were filled")
    return tuple(said)
