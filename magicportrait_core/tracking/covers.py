"""Parts of a face that something covers: a hand, a microphone, a mask.

The landmark network puts points under whatever covers a face and is as sure of them as of others, so the
picture itself is asked. Colours at fixed places of the face's surface, read through the landmarks, are
compared with the same person's usual ones in the clip. A zone counts as covered in a frame

- where its colours are all alike (a plain thing: lips, chin and their edges are gone), or
- where nearly all of it has changed while the rest of the face, under the same light, has not.

Skin around mouth and eyes is part of each zone, so that an open mouth, teeth or a blink cover nothing. On 32
ordinary clips (beards, glasses, laughter, turns to 70 degrees) a zone kept .55 of its usual contrast and
more, and changed by .65 at most while the rest did not; under 36 plain discs the mouth kept .26 at most.
Textures in other colours are found as well; those in the face's own, as of a hand, in about half the clips.

One picture knows no usual colours. There a zone is covered where it is plain beyond doubt, where it is even
and nearly all of it differs from the rest of the face, or where most of it lies beyond the picture's border.
Of 374 pictures of free faces this calls none covered; of 365 drawn masks it misses two, of 15 real ones, with
folds and prints, eight. Opaque dark glasses are found; hair over an eye, a hat's brim, hands and glasses that
mirror are not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..expression_groups import group_of, is_arkit
from .face_region import LEFT_EYE_CORNER, NUM_FACE_POINTS, RIGHT_EYE_CORNER
from .skin_sampler import RIGHT, SkinSampler
from .track import FaceTrack

ZONES = ("mouth", "right_eye", "left_eye")  # of the person, with what surrounds them; columns of `covered`
ZONE_NAMES = ("mouth and chin", "right eye", "left eye")

# Parts of each zone, all of which must have changed: (left, right, bottom, top), centimetres. The left eye's
# are mirror images of the right eye's.
MOUTH_PARTS = ((-2.6, 2.6, -8.6, -6.0), (-2.0, 2.0, -5.3, -3.5))  # chin, lips
EYE_PARTS = ((-5.2, -1.4, 1.6, 3.4), (-5.6, -1.2, 3.8, 5.6))  # eye, brow
# What hangs on a zone, in outer-eye distances from the middle between the outer eye corners:
MOUTH_LINE = -0.55  # below the nose
EYE_LINES, EYE_INNER = (-0.19, 0.35), 0.11  # from under the eye to above the brow, and beside the nose
OTHER_SIDE = {"mouth": (), "right_eye": ("Left",), "left_eye": ("Right",)}  # ends of ARKit names
LIDS = {"mouth": [], "right_eye": [1], "left_eye": [0]}  # columns of FaceTrack.eyelids
JOINTS = {"mouth": [2], "right_eye": [4], "left_eye": [3]}  # rows of FaceTrack.pose
RIGHT_IRIS, LEFT_IRIS = slice(468, 473), slice(473, 478)
DARK = 0.15  # added to colours before the logarithm, so that dark noise does not shout
CHANGED = 0.25  # change of the logarithm of a colour that is no change of light
MOSTLY = 0.8  # share of each part that has changed where the zone is covered
HARDLY = 0.2  # share of the rest of the face that may have changed
PLAIN = 0.35  # contrast over the usual one, below which a zone is plain
LIGHT_STEPS = 6
MIDDLE_SHARE = (0.2, 0.8)  # contrast is the span of the middle colours, whatever a few at the edges are
LEAST_SEEN = 0.5  # share of a part that must face the viewer to be judged
COMING = 2  # frames in which a cover comes, and goes, half seen
CHUNK = 256  # frames
LEAST_FRAMES = 3  # with a free zone, to know what is usual
# In one picture, contrast and share of each part:
MIDDLE = 0.5  # level to which the face is exposed
BLANK = 0.075  # contrast of no more than one colour (free mouths: .079 and more, eyes: .093)
EVEN, EVEN_EYE = 0.28, 0.15  # contrast of a cover with folds or prints, where nearly all of a part
STRANGE = 0.95  # differs from the rest of the face (free mouths: .43 and more, eyes: .2)
BEYOND = 0.5  # share beyond the picture's border


def covered_zones(
    sampler: SkinSampler,
    colours: Tensor,  # (F, N, 3) uint8
    points: Tensor,  # (F, 478, 3)
    found: Tensor,  # (F,) bool
    size: tuple[int, int],  # height, width of the frames
) -> Tensor:  # (F, len(ZONES)) bool
    """Which zones are covered in which frames of a clip. Two frames before and after each run count as well,
    for what covers a face comes and goes through its edges. In clips too short to know what is usual, and
    under a cover that stays throughout, each picture is judged by itself.
    """
    facing, inside = _in_chunks(lambda part: sampler.visible(part, size), points)
    seen = facing & inside & found[:, None]  # (F, N)
    (alone,) = _in_chunks(partial(_covered_alone, sampler), colours, seen, inside)
    covered = alone & found[:, None]
    for column, zone in enumerate(ZONES):
        free = found & ~alone[:, column]
        if int(free.sum()) < LEAST_FRAMES:
            continue
        usual = colours[free].median(0).values
        changed, contrast = _in_chunks(partial(_changed, sampler, zone, usual), colours, seen)
        plain = (contrast / contrast[free].median(0).values.clamp(min=1e-6)).amax(1) < PLAIN
        covered[:, column] = _with_neighbours((changed | plain) & found) & found
    return covered


def _changed(
    sampler: SkinSampler,
    zone: str,
    usual: Tensor,  # (N, 3) uint8
    colours: Tensor,  # (F, N, 3) uint8
    seen: Tensor,  # (F, N) bool
) -> tuple[Tensor, Tensor]:  # (F,) bool, something else is where the zone was; (F, P) contrast of its parts
    parts, around = _parts(sampler, zone), ~_hangs_on(sampler.eye_distances, zone)
    tones = _tones(colours)
    change = tones - _tones(usual)
    changed = (change - _light(sampler, change, seen & around)).abs().amax(-1) > CHANGED
    instead = (_least_share(changed, seen, parts) >= MOSTLY) & (_share(changed, seen, around) <= HARDLY)
    return instead, torch.stack([_contrast(tones[:, part]) for part in parts], 1)


def _covered_alone(
    sampler: SkinSampler,
    colours: Tensor,  # (F, N, 3) uint8
    seen: Tensor,  # (F, N) bool
    inside: Tensor,  # (F, N) bool, within the picture
) -> tuple[Tensor]:  # (F, len(ZONES)) bool
    """Zones that look covered in a picture by itself, at whatever exposure."""
    covered = torch.zeros(len(colours), len(ZONES), dtype=torch.bool)
    levels = colours.float().masked_fill(~seen[..., None], torch.nan)
    middle = levels.flatten(1).nanmedian(1).values.clamp(min=1)[:, None, None]
    tones = _tones(255 * MIDDLE * levels / middle)  # (F, N, 3)
    for column, zone in enumerate(ZONES):
        parts, around = _parts(sampler, zone), ~_hangs_on(sampler.eye_distances, zone)
        if zone != "mouth":
            parts = parts[:1]  # brows show beyond dark glasses
        rest = tones[:, around].nanmedian(1, keepdim=True).values
        strange = _least_share((tones - rest).abs().amax(-1) > CHANGED, seen, parts) >= STRANGE
        if zone != "mouth":  # a mask covers the cheeks as well, from which the eyes would differ
            strange &= ~covered[:, 0]
        contrast = torch.stack([_contrast(tones[:, part]) for part in parts], 1).amax(1)
        judged = _least_share(seen, seen, parts) > 0
        even = contrast < (EVEN if zone == "mouth" else EVEN_EYE)
        plain = judged & (contrast < BLANK) | strange & even
        covered[:, column] = plain | (_least_share(~inside, torch.ones_like(inside), parts) > BEYOND)
    return (covered,)


def zone_landmarks(
    points: Tensor,  # (478, 3) of a head that looks at the viewer, x right, y up, any unit
) -> Tensor:  # (len(ZONES), 478) bool
    """Landmarks that say nothing where a zone is covered; irises go with their eyes."""
    right, left = points[RIGHT_EYE_CORNER, :2], points[LEFT_EYE_CORNER, :2]
    places = (points[:, :2] - (right + left) / 2) / (left[0] - right[0])
    flags = torch.stack([_hangs_on(places, zone) for zone in ZONES])
    flags[:, NUM_FACE_POINTS:] = False
    flags[1, RIGHT_IRIS], flags[2, LEFT_IRIS] = True, True
    return flags


def is_covered(portrait: FaceTrack, zone: str) -> bool:
    """Whether a zone is known to be covered in a track of one frame."""
    return portrait.covered is not None and bool(portrait.covered[0, ZONES.index(zone)])


def moved_by(
    zone: str,
    names: tuple[str, ...],  # of the expression basis; () where unknown
    size: int,  # of the expression basis
) -> tuple[list[int], list[int], list[int]]:
    """Columns of FaceTrack.expression and .eyelids and rows of .pose that move a zone. A basis without names
    is taken to move the mouth."""
    if not is_arkit(names):
        columns = list(range(size)) if zone == "mouth" else []
    else:
        groups = ("jaw", "mouth") if zone == "mouth" else ("lids", "gaze", "brows")
        other = OTHER_SIDE[zone]
        columns = [i for i, name in enumerate(names) if group_of(name) in groups and not name.endswith(other)]
    return columns, LIDS[zone], JOINTS[zone]


def _parts(sampler: SkinSampler, zone: str) -> list[Tensor]:  # (N,) bool each
    boxes = MOUTH_PARTS if zone == "mouth" else EYE_PARTS
    x, y = sampler.places.unbind(1)
    x = -x if zone == "left_eye" else x
    return [(x > left) & (x < right) & (y > low) & (y < high) for left, right, low, high in boxes]


def _hangs_on(
    places: Tensor,  # (N, 2) from the middle between the outer eye corners, in their distances
    zone: str,
) -> Tensor:  # (N,) bool
    x, y = places.unbind(1)
    if zone == "mouth":
        return y < MOUTH_LINE
    side = x < -EYE_INNER if zone == "right_eye" else x > EYE_INNER
    return side & (y > EYE_LINES[0]) & (y < EYE_LINES[1])


def _light(sampler: SkinSampler, change: Tensor, basis: Tensor) -> Tensor:  # (F, N, 3)
    """The change that light explains: a level for each colour and a slope across the face, least absolute
    deviations over the places of `basis` (F, N)."""
    design = torch.stack((torch.ones_like(sampler.places[:, 0]), sampler.places[:, 0] / RIGHT), 1)  # (N, 2)
    weight, explained = basis.float(), torch.zeros_like(change)
    for _ in range(LIGHT_STEPS):
        weighted = design * weight[..., None]  # (F, N, 2)
        matrix = weighted.transpose(1, 2) @ design + 1e-2 * torch.eye(2)
        explained = design @ torch.linalg.solve(matrix, weighted.transpose(1, 2) @ change)
        weight = basis / (0.05 + (change - explained).abs().mean(-1))
    return explained


def _in_chunks(judge: Callable[..., tuple[Tensor, ...]], *values: Tensor) -> list[Tensor]:
    """Judge a few frames at a time, for the sake of memory."""
    pieces = [judge(*part) for part in zip(*(each.split(CHUNK) for each in values), strict=True)]
    return [torch.cat(each) for each in zip(*pieces, strict=True)]


def _tones(colours: Tensor) -> Tensor:
    return (colours.float() / 255 + DARK).log()


def _contrast(tones: Tensor) -> Tensor:  # (F, N, 3) -> (F,)
    low, high = torch.nanquantile(tones, tones.new_tensor(MIDDLE_SHARE), dim=1)
    return (high - low).mean(-1)


def _share(flags: Tensor, seen: Tensor, part: Tensor) -> Tensor:  # (F,)
    """Share of a part's visible places with the flag; 0 where too little is visible."""
    visible = seen[:, part]
    share = (flags[:, part] & visible).sum(1) / visible.sum(1).clamp(min=1)
    return torch.where(visible.float().mean(1) >= LEAST_SEEN, share, torch.zeros_like(share))


def _least_share(flags: Tensor, seen: Tensor, parts: list[Tensor]) -> Tensor:  # (F,)
    return torch.stack([_share(flags, seen, part) for part in parts], 1).amin(1)


def _with_neighbours(frames: Tensor) -> Tensor:  # (F,) bool
    return F.max_pool1d(frames[None].float(), 2 * COMING + 1, 1, COMING)[0] > 0
