"""What tells one person from another within a clip: colours at the mesh's points and the face's shape.

Not face recognition: it holds within one clip, under much the same light. Measured on nine people in eight
clips, between the closest views of both: the same person 0.08 at most, others 0.24 and more (father and
child in warm light 0.18).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .face_region import NUM_FACE_POINTS, Region, cut, region_of_points
from .landmarker import CanonicalFace
from .observation import FaceObservation
from .rigid_face import align_to_canonical

CROP = 48  # pixels; coarse, so that expression and sharpness matter little
BLUR = 5
BRIGHTNESS_WEIGHT = 0.5  # light changes more than hue within a clip
SHAPE_WEIGHT = 0.02  # per centimetre of the canonical face, beside colours
SHAPE_ALONE_WEIGHT = 0.05
# Points that expression moves little: eye corners, nose, temples, cheek outline, brow ends, chin.
# fmt: off
STABLE_POINTS = (
    33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 129, 358, 10, 151, 9, 8, 234, 454, 127, 356, 93,
    323, 132, 361, 58, 288, 70, 300, 105, 334, 107, 336, 152, 172, 397,
)
# fmt: on


@dataclass(frozen=True)
class FaceSignature:
    colours: Tensor  # (N,) scaled so that distances are per point
    shape: Tensor  # (M,) weighted, of points in the canonical frame

    def distance(self, other: FaceSignature) -> float:
        """Below 0.1 for one person in similar views, 0.25 and more for two."""
        colours = torch.linalg.vector_norm(self.colours - other.colours)
        shape = torch.linalg.vector_norm(self.shape - other.shape)
        return float(colours + shape)


def signature_of(image: Tensor, face: FaceObservation, canonical: CanonicalFace) -> FaceSignature:
    """`image` (3, H, W) in [-1, 1] is the picture in which `face` was seen."""
    region = region_of_points(face.points)
    crop = cut(image, [region], CROP).cpu() / 255
    crop = F.avg_pool2d(F.pad(crop, (BLUR // 2,) * 4, mode="replicate"), BLUR, 1)
    places = 2 * within(region, face.points[:NUM_FACE_POINTS, :2])
    samples = F.grid_sample(crop, places[None, None], align_corners=False, padding_mode="border")[0, :, 0]
    tones = (samples + 0.02).log()  # dark noise must not shout
    hue = tones - tones.mean(0)
    brightness = (samples.mean(0) + 0.05).log()
    brightness = (brightness - brightness.mean()) * BRIGHTNESS_WEIGHT
    colours = torch.cat((hue.flatten(), brightness)) / NUM_FACE_POINTS**0.5
    return FaceSignature(colours, SHAPE_WEIGHT * shape_of(face, canonical))


def signature_of_shape(face: FaceObservation, canonical: CanonicalFace) -> FaceSignature:
    """Where the picture is not at hand. A weaker witness, on about the same scale."""
    return FaceSignature(face.points.new_zeros(1), SHAPE_ALONE_WEIGHT * shape_of(face, canonical))


def shape_of(face: FaceObservation, canonical: CanonicalFace) -> Tensor:  # (M,) centimetres off the average
    stable = list(STABLE_POINTS)
    return (align_to_canonical(face.points, canonical)[stable] - canonical.vertices[stable]).flatten()


def within(region: Region, points: Tensor) -> Tensor:
    """Pixels (N, 2) as shares of the region, -0.5 .. 0.5."""
    offset = points - points.new_tensor([region.x, region.y])
    angle = torch.tensor(region.angle)
    cos, sin = torch.cos(angle), torch.sin(angle)
    turned = offset @ torch.stack((torch.stack((cos, -sin)), torch.stack((sin, cos))))
    return turned / points.new_tensor([region.width, region.height])


def closest(a: Sequence[FaceSignature], b: Sequence[FaceSignature]) -> float:
    """Distance of the most similar views of two sets."""
    return min(x.distance(y) for x in a for y in b)
