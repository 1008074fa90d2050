"""People of a clip: unbroken runs of one face, and runs of one person joined over gaps and cuts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from .face_region import NUM_FACE_POINTS
from .face_signature import FaceSignature, closest
from .observation import FaceObservation

MAX_STEP = 0.6  # a face's move from one frame to the next, over its size
MAX_ZOOM = 1.6  # change of its size
MAX_CHANGE = 0.2  # change of its signature; measured on eight clips: 0.11 at the 95th percentile
MAX_CHANGE_IN_SHAPE = 0.35  # the same while its outline stays: a hand or a shadow passes over it
MAX_DEFORMATION = 0.04  # mean move of its points against their centre, over its size
# A disc, a hand or a microphone that comes over part of a face changes up to 0.94 of the signature while its
# points deform by 0.03 and move by 0.06 at most (36 clips with covers); other people's do by 0.035 and more.
MAX_CHANGE_IN_PLACE = 1.2
IN_PLACE_DEFORMATION, IN_PLACE_STEP = 0.03, 0.08
MAX_GAP = 10  # frames for which a lost face may be picked up where it was
SAME_PERSON = 0.14  # signature distance of two runs up to which they are joined without a note
MAYBE_SAME_PERSON = 0.22
NEAR_DISCOUNT = 0.7  # of the distance, where a face lost for some frames comes back where it was
NEW_VIEW = 0.08  # signature distance from which a view of a face is worth remembering
MAX_VIEWS = 8


@dataclass
class Tracklet:
    """One face seen in consecutive frames (with short gaps)."""

    frames: list[int] = field(default_factory=list)
    faces: list[FaceObservation] = field(default_factory=list)
    views: list[FaceSignature] = field(default_factory=list)
    latest: FaceSignature | None = None
    ended: bool = False

    def add(self, frame: int, face: FaceObservation, signature: FaceSignature) -> None:
        self.frames.append(frame)
        self.faces.append(face)
        self.latest = signature
        if len(self.views) < MAX_VIEWS and all(signature.distance(v) > NEW_VIEW for v in self.views):
            self.views.append(signature)

    def cost(self, frame: int, face: FaceObservation, signature: FaceSignature) -> float:
        """How badly `face` continues this run; infinite where it cannot."""
        last, gap = self.faces[-1], frame - self.frames[-1]
        move = distance(last, face) / max(size(last), size(face))
        step = move / (MAX_STEP * gap)
        zoom = abs(math.log(size(face) / size(last))) / (math.log(MAX_ZOOM) * gap)
        change = signature.distance(self.latest)
        deformed = deformation(last, face)
        if gap == 1 and deformed <= IN_PLACE_DEFORMATION and move <= IN_PLACE_STEP:
            change /= MAX_CHANGE_IN_PLACE
        else:
            change /= MAX_CHANGE_IN_SHAPE if deformed <= MAX_DEFORMATION else MAX_CHANGE
        return step + zoom + change if max(step, zoom, change) <= 1 else math.inf


@dataclass
class Person:
    """Runs of one person; no two share a frame."""

    tracklets: list[Tracklet]

    @property
    def frames(self) -> set[int]:
        return {frame for run in self.tracklets for frame in run.frames}

    @property
    def views(self) -> list[FaceSignature]:
        return [view for run in self.tracklets for view in run.views]

    @property
    def first(self) -> FaceObservation:
        return min(self.tracklets, key=lambda run: run.frames[0]).faces[0]

    def area(self) -> float:
        """Sum over frames of the face's squared size: large for who is near and long in the picture."""
        return sum(size(face) ** 2 for run in self.tracklets for face in run.faces)


@dataclass(frozen=True)
class Doubt:
    """A join that another eye might see differently."""

    frame: int  # first frame of the later run
    distance: float


class TrackletBuilder:
    """Grows tracklets frame by frame."""

    def __init__(self):
        self.tracklets: list[Tracklet] = []

    def live(self, frame: int) -> list[Tracklet]:
        """Runs that may go on in `frame`, most recently seen first."""
        runs = [r for r in self.tracklets if not r.ended and frame - r.frames[-1] <= MAX_GAP]
        return sorted(runs, key=lambda run: -run.frames[-1])

    def end_all(self) -> None:
        for run in self.tracklets:
            run.ended = True

    def add(self, frame: int, faces: Sequence[FaceObservation], signatures: Sequence[FaceSignature]) -> None:
        if not faces:
            return
        runs = self.live(frame)
        costs = np.array(
            [[run.cost(frame, *seen) for seen in zip(faces, signatures, strict=True)] for run in runs]
        ).reshape(len(runs), len(faces))
        rows, columns = linear_sum_assignment(np.where(np.isinf(costs), 1e6, costs))
        taken = {c: runs[r] for r, c in zip(rows, columns, strict=True) if np.isfinite(costs[r, c])}
        for index, (face, signature) in enumerate(zip(faces, signatures, strict=True)):
            run = taken.get(index)
            if run is None:
                self.tracklets.append(run := Tracklet())
            run.add(frame, face, signature)


def join_tracklets(tracklets: Sequence[Tracklet]) -> tuple[list[Person], list[Doubt]]:
    """Joins the most similar runs first, as long as no person would be at two places at once.

    A join over MAYBE_SAME_PERSON's doubtful range is made only where nobody else is as similar.
    """
    people = [Person([run]) for run in tracklets]
    doubts: list[Doubt] = []
    while True:
        pairs = [
            (join_distance(a, b), i, j)
            for i, a in enumerate(people)
            for j, b in enumerate(people[:i])
            if not a.frames & b.frames
        ]
        pairs = [pair for pair in pairs if pair[0] <= MAYBE_SAME_PERSON]
        if not pairs:
            return people, doubts
        gap, i, j = min(pairs)
        later = max(people[i].tracklets[0], people[j].tracklets[0], key=lambda run: run.frames[0])
        if gap > SAME_PERSON:
            doubts.append(Doubt(later.frames[0], gap))
        runs = sorted(people[i].tracklets + people[j].tracklets, key=lambda run: run.frames[0])
        people = [p for k, p in enumerate(people) if k not in (i, j)] + [Person(runs)]


def join_distance(a: Person, b: Person) -> float:
    gap = closest(a.views, b.views)
    for run, following in ((x, y) for x in a.tracklets for y in b.tracklets):
        if run.frames[0] > following.frames[0]:
            run, following = following, run
        frames = following.frames[0] - run.frames[-1]
        last, first = run.faces[-1], following.faces[0]
        if 1 < frames <= 2 * MAX_GAP and not run.ended and distance(last, first) < size(last):
            return gap * NEAR_DISCOUNT
    return gap


def size(face: FaceObservation) -> float:
    """Longer side of the face's box, pixels."""
    left, top, right, bottom = face.box
    return max(right - left, bottom - top)


def centre(face: FaceObservation) -> tuple[float, float]:
    left, top, right, bottom = face.box
    return (left + right) / 2, (top + bottom) / 2


def distance(a: FaceObservation, b: FaceObservation) -> float:
    return math.dist(centre(a), centre(b))


def deformation(a: FaceObservation, b: FaceObservation) -> float:
    """Mean move of the points, apart from that of their centre, over the face's size."""
    flat_a, flat_b = (face.points[:NUM_FACE_POINTS, :2] for face in (a, b))
    move = (flat_a - flat_a.mean(0)) - (flat_b - flat_b.mean(0))
    return float(move.norm(dim=-1).mean()) / size(a)
