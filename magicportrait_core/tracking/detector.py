"""Finds faces: BlazeFace over one square or many, decoded and merged; where to look when it finds none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .face_region import REGION_SCALE, Region, cut, overlap
from .landmarker_networks import DETECTOR_SIZE, FaceDetector

ANCHOR_GRIDS = ((16, 2), (8, 6))  # cells a side, anchors a cell
MAX_LOGIT = 100.0  # scores are clipped as in the published graph; sigmoid saturates far earlier
SAME_FACE_OVERLAP = 0.5  # intersection over union from which boxes are one face
RIGHT_EYE, LEFT_EYE = 0, 1  # of the detector's six points
READING_FRACTION = 32  # MediaPipe's warp reads at 1/32 pixels; its boxes are reproduced only so

# Squares in which to look again. The detector knows faces of about 10 to 60 % of its square.
WIDER = 1.6  # for a face that fills the picture
TILE_FRACTIONS = (1 / 2, 1 / 4, 1 / 8)  # of the picture's longer side
TILE_STEP = 2 / 3  # of the tile: a face of up to a third of it is whole in some tile
MIN_TILE = 96  # pixels; below, a face has too few pixels to be read
TILE_BATCH = 16


@dataclass(frozen=True)
class Detection:
    """A face as the detector sees it, in pixels of the picture."""

    box: tuple[float, float, float, float]  # left, top, right, bottom
    points: Tensor  # (6, 2) right eye, left eye, nose tip, mouth, right and left ear
    score: float  # 0..1

    @property
    def region(self) -> Region:
        """Where the mesh network should look: enlarged, and turned so that the eyes are level."""
        left, top, right, bottom = self.box
        eyes = (self.points[LEFT_EYE] - self.points[RIGHT_EYE]).tolist()
        return Region(
            x=(left + right) / 2,
            y=(top + bottom) / 2,
            width=(right - left) * REGION_SCALE,
            height=(bottom - top) * REGION_SCALE,
            angle=math.atan2(eyes[1], eyes[0]),
        )


def anchors() -> Tensor:
    """Centres (896, 2) of the detector's anchors, 0..1, in the order of its outputs."""
    centres = []
    for cells, count in ANCHOR_GRIDS:
        steps = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        centres.append(torch.stack((x, y), -1).reshape(-1, 1, 2).expand(-1, count, 2).reshape(-1, 2))
    return torch.cat(centres)


def decode(
    logits: Tensor,  # (896,)
    values: Tensor,  # (896, 16)
    square: Region,
    min_score: float,
) -> list[Detection]:
    """Every anchor that claims a face, best first; boxes overlap freely."""
    scores = logits.clamp(-MAX_LOGIT, MAX_LOGIT).sigmoid()
    order = scores.argsort(descending=True)[: int((scores >= min_score).sum())]
    if not len(order):
        return []
    centre = anchors()[order]
    values = values[order] / DETECTOR_SIZE
    middle, extent = values[:, :2] + centre, values[:, 2:4]
    points = square.to_picture(values[:, 4:].reshape(-1, 6, 2) + centre[:, None])
    corners = square.to_picture(torch.stack((middle - extent / 2, middle + extent / 2), 1)).flatten(1)
    if square.angle:  # a turned square turns the corners; the box stays upright around the same centre
        half = extent[:, :1] * square.width / 2
        middle = square.to_picture(middle)
        corners = torch.cat((middle - half, middle + half), 1)
    found = zip(corners.tolist(), points, scores[order].tolist(), strict=True)
    return [Detection(tuple(box), six, score) for box, six, score in found]


def merge(detections: Sequence[Detection]) -> list[Detection]:
    """Weighted non-maximum suppression: boxes of one face become their mean, weighted by score."""
    rest = sorted(detections, key=lambda d: -d.score)
    merged = []
    while rest:
        best = rest[0]
        same = [d for d in rest if d is best or overlap(d.box, best.box) > SAME_FACE_OVERLAP]
        rest = [d for d in rest if all(d is not other for other in same)]
        weights = torch.tensor([d.score for d in same])
        weights = weights / weights.sum()
        box = (torch.tensor([d.box for d in same]) * weights[:, None]).sum(0)
        points = (torch.stack([d.points for d in same]) * weights[:, None, None]).sum(0)
        merged.append(Detection(tuple(box.tolist()), points, best.score))
    return merged


def detect_faces(
    network: FaceDetector,
    image: Tensor,  # (3, H, W) in [-1, 1]
    squares: Sequence[Region],
    min_score: float = 0.5,
) -> list[Detection]:
    """Faces in any of the squares, best first."""
    device = next(network.parameters()).device
    found: list[Detection] = []
    for start in range(0, len(squares), TILE_BATCH):
        some = squares[start : start + TILE_BATCH]
        pictures = cut(image, some, DETECTOR_SIZE, "black", READING_FRACTION) / 127.5 - 1
        logits, values = network(pictures.to(device).contiguous(memory_format=torch.channels_last))
        for square, *outputs in zip(some, logits.cpu(), values.cpu(), strict=True):
            found += decode(*outputs, square, min_score)
    return merge(found)


def whole_picture(size: tuple[int, int], scale: float = 1.0, angle: float = 0.0) -> Region:
    """The square around a picture of `size` (height, width)."""
    side = max(size) * scale
    return Region(size[1] / 2, size[0] / 2, side, side, angle)


def further_squares(size: tuple[int, int]) -> Iterator[list[Region]]:
    """Where to look when the whole picture shows no face, cheapest first: from further away (a face that
    fills the picture), with the picture turned, then in ever smaller tiles (small faces)."""
    yield [whole_picture(size, WIDER)]
    yield [whole_picture(size, 1.0, turn * math.pi / 2) for turn in (1, 2, 3)]
    for fraction in TILE_FRACTIONS:
        side = max(size) * fraction
        if side >= MIN_TILE:
            yield tiles(size, side)


def tiles(size: tuple[int, int], side: float) -> list[Region]:
    height, width = size
    return [Region(x, y, side, side) for y in _tile_centres(height, side) for x in _tile_centres(width, side)]


def _tile_centres(length: int, side: float) -> list[float]:
    if length <= side:
        return [length / 2]
    count = math.ceil((length - side) / (side * TILE_STEP)) + 1
    return [side / 2 + (length - side) * k / (count - 1) for k in range(count)]
