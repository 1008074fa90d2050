"""One person through a clip: who is meant, and where they are in every frame."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .covers import covered_zones
from .face_region import overlap
from .face_signature import signature_of, signature_of_shape
from .glimpse import Glimpse
from .landmarker import CanonicalFace, Landmarker
from .observation import NUM_BLENDSHAPES, NUM_LANDMARKS, FaceObservation, FaceObservations
from .skin_sampler import SkinSampler, skin_sampler
from .tracklets import Doubt, Person, TrackletBuilder, centre, join_tracklets

Order = Literal["size", "left_to_right", "near_point"]
MEANING = {"size": "by size", "left_to_right": "from left to right", "near_point": "by nearness to the point"}
MIN_PEOPLE = 4  # faces looked for in a frame, at least
SEARCH_EVERY = 4  # frames between searches for further faces while as many as ever are in sight
THOROUGH_AT_FIRST = 8  # frames without a face in which parts of the picture are searched as well ...
THOROUGH_EVERY = 6  # ... and how often from then on
BRIEF = 0.03  # people seen in less than this share of the most seen one's frames are not counted
CUT_CELLS = 8  # the picture is compared in 8x8 cells ...
CUT_SAMPLES = 8  # ... of 8x8 samples each
CUT_CHANGE = 0.3  # mean change of the cells, in [-1, 1] units, from one frame to the next

OnFaces = Callable[[int, Tensor, list[FaceObservation]], None]  # a frame and all faces seen in it

logger = logging.getLogger("magicportrait")


@dataclass(frozen=True)
class FaceChoice:
    """Which face of a clip is meant. With a box, index and order do not matter.

    "size" counts from the person who is largest over the clip; "left_to_right" and "near_point" go by where
    each person first appears.
    """

    index: int = 0
    order: Order = "size"
    point: tuple[float, float] | None = None  # x, y in pixels, for "near_point"
    box: tuple[float, float, float, float] | None = None  # left, top, right, bottom in pixels

    def __post_init__(self):
        if self.order not in MEANING:
            raise ValueError(f"order={self.order!r}; expected one of {', '.join(MEANING)}")
        if self.index < 0:
            raise ValueError(f"face index={self.index}; faces are counted from 0")
        if self.order == "near_point" and self.point is None and self.box is None:
            raise ValueError("order 'near_point' needs a point (x, y in pixels)")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError(f"box={self.box} is empty; expected left, top, right, bottom in pixels")


def follow_face(
    frames: Iterable[Tensor],  # (3, H, W) in [-1, 1] each, of one size; read once, one at a time
    landmarker: Landmarker,
    choice: FaceChoice | None = None,
    fps: float = 0.0,
    on_frame: Callable[[int], None] | None = None,  # frames looked at so far; may raise to cancel
    on_faces: OnFaces | None = None,
) -> FaceObservations:
    """The chosen person in every frame. All faces of the clip are followed, so that one person is not taken
    for another when they cross, are hidden for a while, leave and return, or after a cut.

    Raises ValueError with one sentence when the clip is empty, shows no face, or not the face asked for.
    """
    choice = choice or FaceChoice()
    builder = TrackletBuilder()
    max_faces = max(MIN_PEOPLE, choice.index + 2)
    num_faces: list[int] = []
    sampler = skin_sampler(landmarker.canonical)
    glimpses: dict[int, Glimpse] = {}  # of the faces in sight, by id
    size, before, unseen = None, None, 0
    for number, frame in enumerate(frames):
        size = _same_size(size, frame, number)
        now = overview(frame)
        if before is not None and float((now - before).abs().mean()) > CUT_CHANGE:
            builder.end_all()
        before = now
        known = builder.live(number)
        in_sight = sum(run.frames[-1] == number - 1 for run in known)
        complete = in_sight == len(known) >= max([1, *num_faces])
        wanted = len(known) if complete and number % SEARCH_EVERY else max_faces
        if number == 0 and choice != FaceChoice():  # perhaps a small face beside a large one is meant
            faces = landmarker.observe_everywhere(frame, max_faces, settle=True)
        else:
            last = [run.faces[-1] for run in known]
            still = [id(face) in glimpses and glimpses[id(face)].unchanged(frame) for face in last]
            faces = landmarker.observe(frame, last, wanted, _search_hard(unseen), settle=True, still=still)
        faces = [_with_skin(frame, face, sampler) for face in faces]
        glimpses = {id(face): glimpses.get(id(face)) or Glimpse.of(frame, face) for face in faces}
        builder.add(number, faces, [signature_of(frame, face, landmarker.canonical) for face in faces])
        if on_faces is not None:
            on_faces(number, frame, faces)
        unseen = 0 if faces else unseen + 1
        num_faces.append(len(faces))
        if on_frame is not None:
            on_frame(number + 1)
    if size is None:
        raise ValueError("there are no frames to look for a face in; connect a video or a picture")
    return _chosen(builder, choice, size, fps, num_faces, sampler)


def follow_observed(
    faces: Sequence[Sequence[FaceObservation]],  # of each frame, in any order
    canonical: CanonicalFace,
    size: tuple[int, int],  # height, width of the frames
    choice: FaceChoice | None = None,
    fps: float = 0.0,
) -> FaceObservations:
    """The same for faces that are known already. Without pictures, people are told apart by place and shape
    alone."""
    builder = TrackletBuilder()
    for number, seen in enumerate(faces):
        builder.add(number, seen, [signature_of_shape(face, canonical) for face in seen])
    return _chosen(builder, choice or FaceChoice(), size, fps, [len(seen) for seen in faces])


def _with_skin(frame: Tensor, face: FaceObservation, sampler: SkinSampler) -> FaceObservation:
    return face if face.skin is not None else replace(face, skin=sampler.colours(frame, face.points))


def _chosen(
    builder: TrackletBuilder,
    choice: FaceChoice,
    size: tuple[int, int],
    fps: float,
    num_faces: list[int],
    sampler: SkinSampler | None = None,  # that the faces' skin was read with
) -> FaceObservations:
    people, doubts = join_tracklets(builder.tracklets)
    person = choose(without_brief(people), choice, size, len(num_faces))
    notes = tuple(_explain(d) for d in doubts if any(run.frames[0] == d.frame for run in person.tracklets))
    for note in notes:
        logger.warning(note)
    seen = _observations(person, size, fps, num_faces, choice.index, notes)
    if sampler is None:
        return seen
    skin = torch.zeros(seen.num_frames, len(sampler.places), 3, dtype=torch.uint8)
    for run in person.tracklets:
        for frame, face in zip(run.frames, run.faces, strict=True):
            skin[frame] = face.skin
    return replace(seen, covered=covered_zones(sampler, skin, seen.points, seen.found, size))


def choose(people: list[Person], choice: FaceChoice, size: tuple[int, int], num_frames: int) -> Person:
    shown = "the picture" if num_frames == 1 else "the clip"
    if not people:
        where = "the picture" if num_frames == 1 else f"any of the {num_frames} frames"
        raise ValueError(
            f"no face was found in {where} ({size[1]}x{size[0]} pixels); use one in which a face is turned "
            "to the camera, uncovered and at least 40 pixels wide"
        )
    if choice.box is not None:
        return _in_box(people, choice.box, shown)
    if choice.index >= len(people):
        asked = f"asked for face {choice.index} {MEANING[choice.order]} (counted from 0)"
        most = f"{shown} shows at most {len(people)} face{'s' * (len(people) > 1)}"
        rest = "choose 0" if len(people) == 1 else f"choose 0 to {len(people) - 1}"
        raise ValueError(f"{asked}, {most}: {rest}")
    if choice.order == "near_point":
        x, y = choice.point
        if not (0 <= x <= size[1] and 0 <= y <= size[0]):
            raise ValueError(f"point ({x:g}, {y:g}) lies outside {shown}, {size[1]}x{size[0]} pixels")
    keys = {
        "size": lambda person: -person.area(),
        "left_to_right": lambda person: centre(person.first)[0],
        "near_point": lambda person: math.dist(centre(person.first), choice.point),
    }
    return sorted(people, key=keys[choice.order])[choice.index]


def without_brief(people: list[Person]) -> list[Person]:
    """Without those seen for a moment only, such as a pattern taken for a face."""
    most = max((len(person.frames) for person in people), default=0)
    return [person for person in people if len(person.frames) >= BRIEF * most]


def _in_box(people: list[Person], box: tuple[float, float, float, float], shown: str) -> Person:
    best = max(people, key=lambda person: overlap(person.first.box, box))
    if overlap(best.first.box, box) == 0:
        places = "; ".join(", ".join(f"{v:.0f}" for v in person.first.box) for person in people)
        asked = ", ".join(f"{v:.0f}" for v in box)
        raise ValueError(
            f"there is no face in the box ({asked}) of {shown}; faces first appear at ({places}), as left, "
            "top, right, bottom in pixels"
        )
    return best


def overview(frame: Tensor) -> Tensor:
    """(3, 8, 8) means of a few samples per cell: enough to see a cut, cheap at any size."""
    wanted = CUT_CELLS * CUT_SAMPLES
    rows, columns = max(1, frame.shape[-2] // wanted), max(1, frame.shape[-1] // wanted)
    return F.adaptive_avg_pool2d(frame[:, ::rows, ::columns].float(), CUT_CELLS)


def _search_hard(unseen: int) -> bool:
    """Thorough searches are dear: in the first frames without a face, then now and then."""
    return unseen < THOROUGH_AT_FIRST or unseen % THOROUGH_EVERY == 0


def _same_size(size: tuple[int, int] | None, frame: Tensor, number: int) -> tuple[int, int]:
    found = (frame.shape[-2], frame.shape[-1])
    if size is not None and found != size:
        raise ValueError(
            f"frame {number} is {found[1]}x{found[0]} pixels, the frames before are {size[1]}x{size[0]}; "
            "frames of a clip must have one size"
        )
    return found


def _explain(doubt: Doubt) -> str:
    return (
        f"the face that appears in frame {doubt.frame} was taken for the same person, but it is not certain "
        f"(difference {doubt.distance:.2f}); look at the overlay from there on"
    )


def _observations(
    person: Person,
    size: tuple[int, int],
    fps: float,
    num_faces: list[int],
    face_index: int,
    notes: tuple[str, ...],
) -> FaceObservations:
    count = len(num_faces)
    points = torch.full((count, NUM_LANDMARKS, 3), math.nan)
    blendshapes = torch.zeros(count, NUM_BLENDSHAPES)
    presence, found = torch.zeros(count), torch.zeros(count, dtype=torch.bool)
    for run in person.tracklets:
        for frame, face in zip(run.frames, run.faces, strict=True):
            points[frame], blendshapes[frame] = face.points, face.blendshapes
            presence[frame], found[frame] = face.presence, True
    return FaceObservations(
        points, blendshapes, presence, found, size, fps, torch.tensor(num_faces), face_index, notes
    )
