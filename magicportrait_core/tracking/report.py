"""What a person wants to know about a track: where the face was found, how well it fits, what to look out
for.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..head.skinning import axis_angle_to_matrix
from .covers import ZONE_NAMES
from .missing import format_ranges, frame_ranges
from .rotations import euler_degrees
from .track import FaceTrack

OUTER_EYES = (33, 263)  # landmarks
CUT_JUMP = 0.35  # share of the face's width by which all landmarks move between frames at a cut
HIGH_ERROR = 3.0  # percent of the outer-eye distance
LOW_PRESENCE = 0.8
PROFILE = 55.0  # degrees of yaw from which one half of the face is a guess
SMALL_FACE = 20.0  # pixels between the outer eye corners
UNUSUAL_SHAPE = 2.5  # standard deviations
WORST_SHOWN = 3


def track_report(track: FaceTrack, num_faces: Tensor | None = None, notes: tuple[str, ...] = ()) -> str:
    """A text of a few lines: frames, where the face was found, fit error, pose, and warnings.

    num_faces: (F,) faces seen in each frame, and notes: sentences about doubtful frames (both of
    FaceObservations), where known.
    """
    lines = [_frames(track), _presence(track, num_faces)]
    if bool(track.found.any()):
        lines += [_errors(track), _pose(track), _person(track)]
    warnings = track_warnings(track, num_faces) + list(notes)
    lines += [f"! {text}" for text in warnings] or ["no warnings"]
    return "\n".join(lines)


def track_warnings(track: FaceTrack, num_faces: Tensor | None = None) -> list[str]:
    """Sentences about what may look wrong and what to do, most important first."""
    found, total = track.found.cpu(), track.num_frames
    said: list[str] = []
    if not bool(found.all()):
        said.append(
            f"no face in {int((~found).sum())} of {total} frames ({format_ranges(frame_ranges(~found))}); "
            "they hold "
            "filled-in values: cut them away or cover them"
        )
    said += cover_warnings(track)
    cuts = suspected_cuts(track)
    if cuts:
        said.append(
            f"the picture jumps at frame {format_ranges([(c, c) for c in cuts])}, as at a cut; one person "
            "is expected "
            "throughout, so split the clip there"
        )
    if num_faces is not None and bool((num_faces > 1).any()):
        several = num_faces.cpu() > 1
        said.append(
            f"several faces in {int(several.sum())} of {total} frames; face {track.face_index} was "
            "followed: check "
            "the overlay, or choose another"
        )
    checks = (
        (
            _turned(track) > PROFILE,
            "the face is in profile",
            "its hidden half is a guess; expect wrong expressions there",
        ),
        (
            track.confidence.cpu() < LOW_PRESENCE,
            "the face is hardly recognised (covered, cut off, or drawn)",
            "check the overlay there",
        ),
        (track.error.cpu() > HIGH_ERROR, "the head does not fit the face well", "check the overlay there"),
        (
            _eye_distance(track) < SMALL_FACE,
            "the face is very small",
            "crop closer or use a larger video for finer expressions",
        ),
    )
    for mask, what, remedy in checks:
        mask = mask & found
        if bool(mask.any()):
            where = (
                ""
                if total == 1
                else f" in {int(mask.sum())} of {total} frames ({format_ranges(frame_ranges(mask))})"
            )
            said.append(f"{what}{where}; {remedy}")
    if track.shape.abs().max() > UNUSUAL_SHAPE and track.head != "flame":
        said.append(
            f"the face shape is unusual (up to {track.shape.abs().max().item():.1f} standard deviations); "
            "a frontal "
            "picture gives a better one"
        )
    return said


def cover_warnings(track: FaceTrack) -> list[str]:
    """Sentences about parts of the face that something covers in a clip, with the frames."""
    if track.covered is None or track.num_frames < 2:
        return []
    covered, found = track.covered.cpu() & track.found.cpu()[:, None], track.found.cpu()
    said = []
    for name, frames in zip(ZONE_NAMES, covered.T, strict=True):
        where = f"{int(frames.sum())} of {track.num_frames} frames ({format_ranges(frame_ranges(frames))})"
        if bool((frames == found).all()):
            said.append(f"{name} covered throughout: their motion is a guess; use a clip with a free face")
        elif bool(frames.any()):
            said.append(f"{name} covered in {where}: bridged from the frames around")
    return said


def suspected_cuts(track: FaceTrack) -> list[int]:
    """Frames whose face stands elsewhere, or is another size, than in the frame before: first frames after
    cuts.
    """
    if track.landmarks is None or track.num_frames < 2:
        return []
    points = track.landmarks[..., :2].cpu()
    width = (points.amax(1) - points.amin(1)).amax(1)  # (F,)
    jump = (points[1:] - points[:-1]).norm(dim=-1).median(1).values / torch.minimum(width[1:], width[:-1])
    usual = jump[jump.isfinite()].median() if bool(jump.isfinite().any()) else torch.tensor(0.0)
    cut = jump > max(CUT_JUMP, 6 * usual.item())
    return (cut.nonzero().flatten() + 1).tolist()


def _frames(track: FaceTrack) -> str:
    height, width = track.size
    if track.fps == 0:
        return f"picture of {width}x{height}, head model {track.head}"
    seconds = track.num_frames / track.fps
    return (
        f"{track.num_frames} frames of {width}x{height} at {track.fps:g} fps ({seconds:.1f} s), "
        f"head model {track.head}"
    )


def _presence(track: FaceTrack, num_faces: Tensor | None) -> str:
    found = track.found.cpu()
    text = f"face {track.face_index} found in {int(found.sum())} of {track.num_frames} frames"
    if not bool(found.all()):
        text += f" ({format_ranges(frame_ranges(found))}), missing in {format_ranges(frame_ranges(~found))}"
    if num_faces is not None and len(num_faces):
        text += f"; faces seen: {_span(num_faces.cpu())}"
    return text


def _errors(track: FaceTrack) -> str:
    error = track.error.cpu()
    known = error.isfinite()
    if not bool(known.any()):
        return "fit error: not measured"
    values = error[known]
    if track.num_frames == 1:
        return f"fit error: {values[0].item():.2f} % of the outer-eye distance"
    worst = torch.where(known, error, -1.0).argsort(descending=True)[:WORST_SHOWN]
    named = ", ".join(f"frame {int(i)} ({error[i].item():.2f} %)" for i in worst if known[i])
    return (
        f"fit error: mean {values.mean().item():.2f} %, 95 % of frames below "
        f"{values.quantile(0.95).item():.2f} % of the outer-eye distance; worst: {named}"
    )


def _pose(track: FaceTrack) -> str:
    angles = euler_degrees(_skull(track))[track.found.cpu()]
    names = ("yaw", "pitch", "roll")
    spans = [f"{name} {_span(angles[:, i].round())}" for i, name in enumerate(names)]
    return "head turn in degrees (+ right, down, left shoulder of the picture): " + ", ".join(spans)


def _person(track: FaceTrack) -> str:
    shape = track.shape[0].cpu()
    return (
        f"face shape: {shape.square().mean().sqrt().item():.2f} standard deviations from the average, "
        "largest "
        f"coefficient {shape.abs().max().item():.1f}"
    )


def _span(values: Tensor) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _skull(track: FaceTrack) -> Tensor:  # (F, 3, 3) rotation in camera space
    turn = axis_angle_to_matrix(track.pose[:, :2].cpu())
    return track.camera.view[..., :3].cpu() @ turn[:, 0] @ turn[:, 1]


def _turned(track: FaceTrack) -> Tensor:  # (F,) degrees of yaw, either side
    return euler_degrees(_skull(track))[:, 0].abs()


def _eye_distance(track: FaceTrack) -> Tensor:  # (F,) pixels; large where landmarks are unknown
    if track.landmarks is None:
        return torch.full((track.num_frames,), torch.inf)
    first, second = (track.landmarks[:, i].cpu() for i in OUTER_EYES)
    return (first - second).norm(dim=-1)  # in three dimensions: turning does not shrink it
