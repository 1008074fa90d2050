"""Parts of a face that something covers: a hand, a microphone, a mask.

The landmark network puts points under whatever covers a face and is as sure of them as of others, so the
picture itself is asked. Colours at fixed places of the face's surface, read through the landmarks, are compared
with the same person's usual ones in the clip. A zone counts as covered in a frame

- where its colours are all alike (a plain thing: lips, chin and their edges are gone), or
- where nearly all of it has changed while the rest of the face, under the same light, has not.

Skin around mouth and eyes is part of each zone, so that an open mouth, teeth or a blink cover nothing. On 32
ordinary clips (beards, glasses, laughter, turns to 70 degrees) a zone kept .55 of its usual contrast and more,
and changed by .65 at most while the rest did not; under 36 plain discs the mouth kept .26 at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .face_region import LEFT_EYE_CORNER, NUM_FACE_POINTS, RIGHT_EYE_CORNER
from .landmarker import CanonicalFace

ZONES = ("mouth", "right_eye", "left_eye")  # of the person, with what surrounds them; columns of `covered`
ZONE_NAMES = ("mouth and chin", "right eye", "left eye")

GRID = 40  # samples across the canonical face's front view
LEFT, RIGHT, TOP, BOTTOM = -7.2, 7.2, 7.6, -8.8  # centimetres, canonical frame
EYE_HEIGHT, EYE_DISTANCE = 2.664, 8.892  # centimetres, of the canonical face's outer eye corners
# Parts of each zone, all of which must have changed: (left, right, bottom, top), centimetres. The left eye's
# are mirror images of the right eye's.
MOUTH_PARTS = ((-2.6, 2.6, -8.6, -6.0), (-2.0, 2.0, -5.3, -3.5))  # chin, lips
EYE_PARTS = ((-5.2, -1.4, 1.6, 3.4), (-5.6, -1.2, 3.8, 5.6))  # eye, brow
# What hangs on a zone, in outer-eye distances from the middle between the outer eye corners:
MOUTH_LINE = -0.55  # below the nose
EYE_LINES, EYE_INNER = (-0.19, 0.35), 0.11  # from under the eye to above the brow, and beside the nose
RIGHT_IRIS, LEFT_IRIS = slice(468, 473), slice(473, 478)
DARK = 0.15  # added to colours before the logarithm, so that dark noise does not shout
FACING = 0.35  # cosine towards the viewer from which skin is compared
CHANGED = 0.25  # change of the logarithm of a colour that is no change of light
MOSTLY = 0.8  # share of each part that has changed where the zone is covered
HARDLY = 0.2  # share of the rest of the face that may have changed
PLAIN = 0.35  # contrast over the usual one, below which a zone is plain
LIGHT_STEPS = 6
MIDDLE_SHARE = (0.2, 0.8)  # contrast is the span of the middle colours, whatever a few at the edges are
LEAST_SEEN = 0.5  # share of a part that must face the viewer to be judged
LEAST_FRAMES = 3  # with a face, to know what is usual


@dataclass(frozen=True)
class SkinSampler:
    """Fixed places on the face's surface as mixtures of three landmarks each."""

    corners: Tensor  # (N, 3) int64 landmarks
    weights: Tensor  # (N, 3)
    places: Tensor  # (N, 2) x, y in the canonical front view, centimetres

    @classmethod
    def of(cls, canonical: CanonicalFace) -> SkinSampler:
        steps_x, steps_y = torch.linspace(LEFT, RIGHT, GRID), torch.linspace(TOP, BOTTOM, GRID)
        places = torch.stack(torch.meshgrid(steps_x, steps_y, indexing="xy"), -1).reshape(-1, 2)
        triangles = canonical.triangles.long()
        a, b, c = canonical.vertices[triangles].unbind(1)  # (T, 3) each
        ab, ac, ap = b - a, c - a, places[:, None] - a[None, :, :2]
        area = _cross(ab, ac)
        second, third = _cross(ap, ac) / area, _cross(ab, ap) / area  # (G, T)
        weights = torch.stack((1 - second - third, second, third), -1)
        depth = torch.where(
            (weights >= 0).all(-1), (weights * torch.stack((a, b, c), -1)[:, 2]).sum(-1), -torch.inf
        )
        front = depth.argmax(1)
        kept = depth.amax(1).isfinite()
        rows = torch.arange(len(places))[kept]
        return cls(triangles[front[kept]], weights[rows, front[kept]], places[kept])

    def colours(
        self,
        frame: Tensor,  # (3, H, W) in [-1, 1]
        points: Tensor,  # (478, 3) pixels
    ) -> Tensor:  # (N, 3) uint8
        spots = (points[self.corners, :2] * self.weights[..., None]).sum(1)
        grid = 2 * spots / spots.new_tensor([frame.shape[-1], frame.shape[-2]]) - 1
        read = F.grid_sample(
            frame[None].float(), grid[None, None].to(frame.device), align_corners=False, padding_mode="border"
        )
        return ((read[0, :, 0].T.cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def facing(
        self,
        points: Tensor,  # (F, 478, 3)
        size: tuple[int, int],  # height, width of the frames
    ) -> Tensor:  # (F, N) cosine towards the viewer; 0 beyond the picture's border
        corners = points[:, self.corners]  # (F, N, 3, 3)
        normal = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
        spots = (corners[..., :2] * self.weights[..., None]).sum(2)
        inside = ((spots >= 0) & (spots < spots.new_tensor([size[1], size[0]]))).all(-1)
        return normal[..., 2].abs() / normal.norm(dim=-1).clamp(min=1e-6) * inside

    @property
    def eye_distances(self) -> Tensor:  # (N, 2) from the middle between the outer eye corners
        return (self.places - self.places.new_tensor([0.0, EYE_HEIGHT])) / EYE_DISTANCE

    def parts(self, zone: str) -> list[Tensor]:  # (N,) bool each
        boxes = MOUTH_PARTS if zone == "mouth" else EYE_PARTS
        x, y = self.places.unbind(1)
        x = -x if zone == "left_eye" else x
        return [(x > left) & (x < right) & (y > low) & (y < high) for left, right, low, high in boxes]


@lru_cache(maxsize=1)
def skin_sampler(canonical: CanonicalFace) -> SkinSampler:
    """The sampler of a canonical face; it takes a tenth of a second to make."""
    return SkinSampler.of(canonical)


def covered_zones(
    sampler: SkinSampler,
    colours: Tensor,  # (F, N, 3) uint8
    points: Tensor,  # (F, 478, 3)
    found: Tensor,  # (F,) bool
    size: tuple[int, int],  # height, width of the frames
) -> Tensor:  # (F, len(ZONES)) bool
    """Which zones are covered in which frames of a clip; a frame before and after each run counts as well,
    for what covers a face comes and goes through its edges. Nothing in clips too short to know what is usual.
    """
    covered = torch.zeros(len(found), len(ZONES), dtype=torch.bool)
    if int(found.sum()) < LEAST_FRAMES:
        return covered
    tones = (colours.float() / 255 + DARK).log()  # (F, N, 3)
    seen = (sampler.facing(points, size) > FACING) & found[:, None]  # (F, N)
    usual = tones[found].median(0).values
    for column, zone in enumerate(ZONES):
        parts = sampler.parts(zone)
        around = ~_hangs_on(sampler.eye_distances, zone)
        changed = (tones - usual - _light(sampler, tones - usual, seen & around)).abs().amax(-1) > CHANGED
        moved = torch.stack([_share(changed, seen, part) for part in parts], 1).amin(1)  # (F,)
        instead = (moved >= MOSTLY) & (_share(changed, seen, around) <= HARDLY)
        contrast = torch.stack([_contrast(tones[:, part]) for part in parts], 1)  # (F, P)
        plain = (contrast / contrast[found].median(0).values.clamp(min=1e-6)).amax(1) < PLAIN
        covered[:, column] = (instead | plain) & found
    padded = F.max_pool1d(covered.T[None].float(), 3, 1, 1)[0].T > 0
    return padded & found[:, None]


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


def _contrast(tones: Tensor) -> Tensor:  # (F, N, 3) -> (F,)
    low, high = torch.quantile(tones, tones.new_tensor(MIDDLE_SHARE), dim=1)
    return (high - low).mean(-1)


def _share(flags: Tensor, seen: Tensor, part: Tensor) -> Tensor:  # (F,)
    """Share of a part's visible places with the flag; 0 where too little is visible."""
    visible = seen[:, part]
    share = (flags[:, part] & visible).sum(1) / visible.sum(1).clamp(min=1)
    return torch.where(visible.float().mean(1) >= LEAST_SEEN, share, torch.zeros_like(share))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
