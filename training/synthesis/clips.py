"""Clip number k of a seed: everything about it is drawn from (seed, k) alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from magicportrait_core.head.assets import load_head
from magicportrait_core.head_appearance import HeadAppearance, plain_appearance
from magicportrait_core.tracking.landmarker import load_landmarker
from training.clip_store import Clip

from .attire import MOST_SOLIDS, TILE
from .backgrounds import random_background
from .camera_effects import photograph, random_look
from .colour import luminance
from .labels import labelled_clip
from .lighting import random_lights
from .motions import single_pictures, smooth_motion
from .people import Person, random_person
from .photo_skins import PhotoSkin, photo_skins
from .portraits import packaged_portraits, portraits_of
from .rendering import Posed, Stage, posed, render
from .round_trips import RoundTrips, round_trip, with_mirrored
from .surface import HeadSurface, head_surface
from .tracks import random_error, tracked_portrait, tracked_target

Kind = Literal["single", "clips", "round-trip"]
OVERSAMPLING = 1.5  # pictures are rendered larger and brought down, which smooths their edges
TEXELS_PER_PIXEL = 4  # side of the head's texture beside the clip's
FACE_WIDTH = 0.135  # metres
FPS = 25.0


@dataclass(frozen=True)
class Recipe:
    """What all clips of a set share."""

    kind: Kind
    frames: int  # per clip
    size: int  # pixels
    seed: int
    photos: Path | None = None  # folder of portraits instead of the packaged ones
    photo_skins: bool = True  # mix detail of the portraits into skins; without, nothing is tracked

    @property
    def rendered(self) -> int:
        """Pixels that pictures are made with."""
        return round(self.size * OVERSAMPLING)


@dataclass(frozen=True)
class Workshop:
    """What a process needs to make clips of a recipe, loaded once."""

    recipe: Recipe
    surface: HeadSurface
    appearance: HeadAppearance
    skins: tuple[PhotoSkin, ...]
    trips: RoundTrips | None

    @classmethod
    def of(cls, recipe: Recipe) -> Workshop:
        """ValueError or ImportError of one sentence where photos are missing or show no face."""
        head = load_head("open_head")
        surface = head_surface(head, max(TEXELS_PER_PIXEL * recipe.size, MOST_SOLIDS * TILE))
        appearance = plain_appearance(head, 64)
        if recipe.kind != "round-trip" and not recipe.photo_skins:
            return cls(recipe, surface, appearance, (), None)
        landmarker = load_landmarker()
        if recipe.photos is None:
            portraits = packaged_portraits(landmarker, head)
        else:
            portraits = portraits_of(recipe.photos, landmarker, head)
        if recipe.kind == "round-trip":
            trips = RoundTrips(head, appearance, with_mirrored(portraits, landmarker, head))
            return cls(recipe, surface, appearance, (), trips)
        return cls(recipe, surface, appearance, photo_skins(surface, portraits), None)


def clip_name(recipe: Recipe, number: int) -> str:
    return f"{recipe.kind}-{recipe.seed}-{number:06d}"


@torch.no_grad()
def make_clip(workshop: Workshop, number: int) -> Clip:
    recipe = workshop.recipe
    random = np.random.default_rng([recipe.seed, number])
    name = clip_name(recipe, number)
    if workshop.trips is not None:
        return round_trip(random, workshop.trips, name, recipe.size, recipe.rendered)
    return _rendered_clip(random, workshop, name)


def _rendered_clip(random: np.random.Generator, workshop: Workshop, name: str) -> Clip:
    recipe, surface, head = workshop.recipe, workshop.surface, workshop.surface.head
    person = random_person(random, surface, workshop.skins)
    smooth = recipe.kind == "clips"
    fps = FPS if smooth else 0.0
    if smooth:
        motions = smooth_motion(random, head, recipe.frames, FPS)
    else:
        motions = single_pictures(random, head, recipe.frames)
    stage = random_stage(random, recipe.rendered)
    frames = [posed(surface, person, stage, motion, motions[0]) for motion in motions]
    pictures = _pictures(random, surface, person, stage, frames)
    error = random_error(random, head)
    portrait = tracked_portrait(random, head, person.shape, frames[0], error)
    targets = [
        tracked_target(random, head, person.shape, frame, error, portrait, fps) for frame in frames[1:]
    ]
    return labelled_clip(
        name,
        head,
        workshop.appearance,
        (pictures[0], portrait),
        list(zip(pictures[1:], targets, strict=True)),
        recipe.size,
        fps,
        {"made by": "training.synthesize_data", "kind": recipe.kind},
    )


def random_stage(random: np.random.Generator, side: int) -> Stage:
    field_of_view = np.radians(random.uniform(14, 42))
    focal = 0.5 * side / np.tan(field_of_view / 2)
    share = random.uniform(0.35, 0.85)  # of the picture's width that the face takes
    distance = FACE_WIDTH * focal / (share * side)
    room = (1 - share) / 2 * FACE_WIDTH / share  # metres beside the face
    place = np.array([random.normal(0, 0.25) * room, random.normal(0.1, 0.25) * room, -distance])
    return Stage(random_lights(random), random_background(random, side), focal, place, side)


def _pictures(
    random: np.random.Generator,
    surface: HeadSurface,
    person: Person,
    stage: Stage,
    frames: list[Posed],
) -> list[np.ndarray]:
    linear = [render(surface, person, stage, frame) for frame in frames]
    look = random_look(random, _exposure(random, person, linear[0]))
    return [photograph(random, picture, look) for picture in linear]


def _exposure(random: np.random.Generator, person: Person, portrait: np.ndarray) -> float:
    """Faces are exposed so that their skin is neither dark nor burnt, dark skin less so."""
    side = portrait.shape[0]
    middle = portrait[int(0.35 * side) : int(0.65 * side), int(0.35 * side) : int(0.65 * side)]
    seen = max(float(np.median(luminance(middle))), 1e-3)
    wanted = (0.10 + 0.5 * float(luminance(person.tone)) ** 0.8) * np.exp(random.normal(0, 0.2))
    return wanted / seen
