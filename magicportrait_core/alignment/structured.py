"""The method: the portrait's person, camera and place with the driver's expression and head rotation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..expression_groups import group_of, is_arkit
from ..head.model import HeadModel
from ..head.skinning import axis_angle_to_matrix, matrix_to_axis_angle
from ..rendering.camera import Camera
from ..tracking.rotations import angle_between, euler_degrees, slerp
from ..tracking.track import FaceTrack
from .covered import cover_notes, kept_where_covered
from .line_of_sight import aim, seen_rotation, sight_direction
from .neutral import neutral_frame
from .notes import notes
from .openings import Openings, corrected_openings
from .options import StructuredFaceAlignment
from .rest import Rest, rest_of
from .turn_limits import LimitedTurn, within_photo

CLIPPED = 0.25  # a coefficient that would go this far beyond its range is worth a warning
STILL = 1e-5  # of a rotation matrix's entries: rounding, no turn
NECK, JAW, LEFT_EYE = 1, 2, 3  # rows of FaceTrack.pose


@dataclass(frozen=True)
class Alignment:
    """The aligned track and what the user should know about it."""

    track: FaceTrack
    warnings: tuple[str, ...]
    neutral_frame: int | None  # None in absolute mode
    turn: LimitedTurn | None = None  # of mode auto: limits, and what was held back


def align_track(
    portrait: FaceTrack,
    driving: FaceTrack,
    options: StructuredFaceAlignment | None = None,
    head: HeadModel | None = None,
) -> FaceTrack:
    """Return the portrait's person, camera and place with the driver's motion, for all frames of the driver.

    `head`, the model of both tracks, lets mode auto open mouth and lids by shares of each person's range;
    without it the coefficients are taken as they are.
    """
    return align(portrait, driving, options, head).track


def align(
    portrait: FaceTrack,
    driving: FaceTrack,
    options: StructuredFaceAlignment | None = None,
    head: HeadModel | None = None,
) -> Alignment:
    """As `align_track`, with warnings about motion that is held back or that one portrait can hardly show.

    Raises ValueError with one sentence for tracks of different heads, with unfilled frames, or of more than
    one portrait.
    """
    options = options or StructuredFaceAlignment()
    _check(portrait, driving, options, head)
    driving = driving.to(portrait.pose.device)
    neutral = None if options.mode == "absolute" else _neutral_frame(portrait, driving, options)
    own = seen_rotation(portrait)[0]
    rotation, held = _rotation(own, seen_rotation(driving), options, neutral)
    rotation, limited = _limit(own, rotation, options)
    camera, direction = _camera(portrait, driving, options, neutral)
    unmoved = (direction == sight_direction(portrait)).all(-1)
    still = ((rotation - own).abs() < STILL).all(-1).all(-1) & unmoved
    moved = _moved(portrait, driving, options, neutral, head)
    track = replace(
        portrait,
        expression=moved.expression,
        pose=_pose(portrait, moved, options, aim(direction) @ rotation, still),
        eyelids=moved.eyelids,
        camera=camera,
        fps=driving.fps,
        confidence=driving.confidence,
        found=driving.found,
        error=torch.full_like(driving.error, torch.nan),
        landmarks=None,
        covered=None,
    )
    said = notes(own, rotation, driving, held, limited, moved.clipped)
    said += tuple(cover_notes(portrait, kept=neutral is not None))
    return Alignment(track, said, neutral, held)


def _neutral_frame(portrait: FaceTrack, driving: FaceTrack, options: StructuredFaceAlignment) -> int:
    if options.neutral_frame is None:
        return neutral_frame(portrait, driving)
    if not 0 <= options.neutral_frame < driving.num_frames:
        raise ValueError(
            f"neutral_frame={options.neutral_frame}, but the driving track has frames 0 to "
            f"{driving.num_frames - 1}; choose one of them, or leave it automatic"
        )
    return options.neutral_frame


@dataclass(frozen=True)
class _Moved:
    """Expression, joints of jaw and eyes, and lids of all frames."""

    expression: Tensor  # (F, E)
    joints: Tensor  # (F, 3, 3) jaw, left eye, right eye, axis-angle
    eyelids: Tensor  # (F, 2)
    clipped: int  # frames in which a coefficient was kept well within its range


def _moved(
    portrait: FaceTrack,
    driving: FaceTrack,
    options: StructuredFaceAlignment,
    neutral: int | None,
    head: HeadModel | None,
) -> _Moved:
    """Transfer all but the head's turn."""
    strength = _strengths(portrait, options)
    jaw, lids, gaze = (options.strength * s for s in (options.jaw, options.lids, options.gaze))
    own, driver = portrait.pose[:, JAW:], driving.pose[:, JAW:]
    if neutral is None:
        wanted = _towards(portrait.expression, driving.expression, strength)
        joints = torch.cat(
            (_towards(own[:, :1], driver[:, :1], jaw), _towards(own[:, 1:], driver[:, 1:], gaze)), 1
        )
        eyelids = _towards(portrait.eyelids, driving.eyelids, lids)
    else:
        rests = _rests(portrait, driving, options, neutral)
        wanted = _added(portrait.expression, driving.expression, strength, *(r.expression for r in rests))
        if options.mode == "auto" and head is not None and is_arkit(portrait.expression_names):
            wanted = _opened(portrait, driving, rests, head.to(wanted.device), strength, wanted)
        joints = torch.cat(
            (
                _added(own[:, :1], driver[:, :1], jaw, *(r.jaw[:, None] for r in rests)),
                _added(own[:, 1:], driver[:, 1:], gaze, own[:, 1:], driver[neutral : neutral + 1, 1:]),
            ),
            1,
        )
        eyelids = _added(portrait.eyelids, driving.eyelids, lids, *(r.eyelids for r in rests))
        wanted, joints, eyelids = kept_where_covered(portrait, wanted, joints, eyelids)
    if not is_arkit(portrait.expression_names):
        return _Moved(wanted, joints, eyelids, 0)
    limited = torch.where(strength == 0, wanted, wanted.clamp(0, 1))
    return _Moved(limited, joints, eyelids, int(((wanted - limited).abs() > CLIPPED).any(1).sum()))


def _strengths(portrait: FaceTrack, options: StructuredFaceAlignment) -> Tensor:  # (E,)
    names = portrait.expression_names
    groups = [group_of(n) for n in names] if is_arkit(names) else ["mouth"] * portrait.expression.shape[1]
    return options.strength * portrait.expression.new_tensor([getattr(options, g) for g in groups])


def _rests(
    portrait: FaceTrack, driving: FaceTrack, options: StructuredFaceAlignment, neutral: int
) -> tuple[Rest, Rest]:
    """Of portrait and driver. In mode relative each is one whole frame."""
    if options.mode == "auto":
        return (
            rest_of(portrait, 0, options.own_expression),
            rest_of(driving, neutral, options.own_expression),
        )
    frames = (portrait, driving[neutral])
    return tuple(Rest(f.expression, f.pose[:, JAW], f.eyelids) for f in frames)


def _towards(own: Tensor, driver: Tensor, strength: float | Tensor) -> Tensor:
    """Values (F, ...) between the portrait's (1, ...) and the driver's."""
    own = own.expand_as(driver)
    strength = torch.as_tensor(strength, dtype=own.dtype, device=own.device)
    return torch.where(strength == 0, own, torch.lerp(own, driver, strength.expand_as(own)))


def _added(own: Tensor, driver: Tensor, strength: float | Tensor, own_rest: Tensor, rest: Tensor) -> Tensor:
    """The portrait's rest with the driver's change since its own; with less strength, nearer to the photo."""
    strength = torch.as_tensor(strength, dtype=own.dtype, device=own.device)
    start = own + strength.clamp(max=1) * (own_rest - own)
    start = torch.where(strength >= 1, own_rest, start)
    return torch.where(strength == 0, own.expand_as(driver), start + strength * (driver - rest))


def _opened(
    portrait: FaceTrack,
    driving: FaceTrack,
    rests: tuple[Rest, Rest],
    head: HeadModel,
    strength: Tensor,  # (E,)
    wanted: Tensor,  # (F, E)
) -> Tensor:  # (F, E)
    """The wanted expression with mouth and lids open by the driver's share; by their strengths."""
    own_rest, rest = (r.expression for r in rests)
    full = (own_rest + driving.expression - rest).clamp(0, 1)
    corrected = corrected_openings(
        full,
        Openings.of(head, portrait.shape),
        portrait.expression,
        own_rest,
        Openings.of(head, driving.shape),
        driving.expression,
        rest,
    )
    return wanted + strength * (corrected - full)


def _rotation(
    own: Tensor,  # (3, 3) relative to the line of sight, as all here
    driver: Tensor,  # (F, 3, 3)
    options: StructuredFaceAlignment,
    neutral: int | None,
) -> tuple[Tensor, LimitedTurn | None]:  # (F, 3, 3) wanted rotation of the skull
    amount = own.new_full((len(driver),), options.strength * options.head)
    if neutral is None:
        return slerp(own.expand_as(driver), driver, amount), None
    change = driver @ driver[neutral].T
    rotation = slerp(torch.eye(3).to(change).expand_as(change), change, amount) @ own
    if options.mode != "auto":
        return rotation, None
    turn = within_photo(own, rotation)
    return turn.rotation, turn


def _limit(own: Tensor, rotation: Tensor, options: StructuredFaceAlignment) -> tuple[Tensor, int]:
    """Rotations led back towards the portrait's until they keep the limits, and how many were."""
    own = own.expand_as(rotation)
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
    moved: _Moved,
    options: StructuredFaceAlignment,
    rotation: Tensor,  # (F, 3, 3) of the skull in camera space
    still: Tensor,  # (F,) bool, frames in which the head is as in the photo
) -> Tensor:  # (F, 5, 3)
    pose = portrait.pose.expand(len(rotation), -1, -1).clone()
    if options.strength * options.head != 0:
        root, neck = axis_angle_to_matrix(portrait.pose[0, :2])
        upright = portrait.camera.view[0, :, :3].T @ rotation  # head space
        if options.carry == "neck" or (options.carry == "auto" and is_arkit(portrait.expression_names)):
            joint, turned = NECK, root.T @ upright
        else:
            joint, turned = 0, upright @ neck.T
        pose[:, joint] = torch.where(still[:, None], pose[:, joint], matrix_to_axis_angle(turned))
    pose[:, JAW:] = moved.joints
    return pose


def _camera(
    portrait: FaceTrack, driving: FaceTrack, options: StructuredFaceAlignment, neutral: int | None
) -> tuple[Camera, Tensor]:
    """The portrait's camera and the direction (F, 3) to its face. With `follow_place` the head moves as the
    driver's does, in metres, scaled in depth (in size, where the camera is orthographic); the principal point
    moves along, so that it is seen from the same side."""
    camera = portrait.camera.expand(driving.num_frames)
    direction = sight_direction(portrait).expand(driving.num_frames, 3)
    strength = options.strength * options.follow_place
    if strength == 0:
        return camera, direction
    start = neutral if neutral is not None else 0
    place, distance = driving.camera.places()[:, :2], _distance(driving.camera)
    change = (distance / distance[start]).clamp(0.2, 5.0)[:, None] ** strength
    shift = strength * (place - place[start])
    aside = camera.aims() * (1 - change) + shift
    if camera.projection == "orthographic":
        intrinsics = torch.cat((camera.intrinsics[:, :1] / change, camera.intrinsics[:, 1:]), 1)
        return replace(camera, intrinsics=intrinsics).aimed_aside(aside), direction
    view = camera.view.clone()
    view[:, 2:, 3] *= change
    nearer = torch.cat((direction[:, :2], direction[:, 2:] * change), 1)
    direction = torch.where(change == 1, direction, nearer)
    return replace(camera, view=view).aimed_aside(aside), direction


def _distance(camera: Camera) -> Tensor:  # (F,) up to a factor
    return 1 / camera.intrinsics[:, 0] if camera.projection == "orthographic" else -camera.view[:, 2, 3]


def _check(
    portrait: FaceTrack, driving: FaceTrack, options: StructuredFaceAlignment, head: HeadModel | None
) -> None:
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
    if head is not None and head.name != portrait.head:
        raise ValueError(
            f"the tracks are of head {portrait.head!r}, the head model is {head.name!r}; load that head"
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
