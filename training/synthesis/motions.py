"""Random expressions and head turns, as single pictures or as smooth motion."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from magicportrait_core.head.model import HeadModel
from magicportrait_core.head.skinning import axis_angle_to_matrix

# ARKit name without side, probability, largest value; sides are coupled.
ACTIONS = (
    ("jawOpen", 0.55, 0.85),
    ("mouthSmile", 0.40, 1.0),
    ("eyeBlink", 0.25, 1.0),
    ("browInnerUp", 0.30, 1.0),
    ("browOuterUp", 0.25, 1.0),
    ("browDown", 0.30, 1.0),
    ("mouthPucker", 0.20, 0.9),
    ("mouthFunnel", 0.20, 0.8),
    ("mouthFrown", 0.15, 0.8),
    ("mouthStretch", 0.15, 0.7),
    ("mouthDimple", 0.12, 0.7),
    ("mouthUpperUp", 0.25, 0.7),
    ("mouthLowerDown", 0.25, 0.7),
    ("mouthPress", 0.10, 0.6),
    ("mouthRollLower", 0.08, 0.7),
    ("mouthRollUpper", 0.08, 0.7),
    ("mouthShrugLower", 0.08, 0.6),
    ("mouthShrugUpper", 0.06, 0.5),
    ("eyeSquint", 0.25, 1.0),
    ("eyeWide", 0.20, 1.0),
    ("cheekSquint", 0.20, 1.0),
    ("cheekPuff", 0.05, 1.0),
    ("noseSneer", 0.12, 0.8),
    ("mouthLeft", 0.07, 0.6),
    ("mouthRight", 0.07, 0.6),
    ("jawLeft", 0.05, 0.5),
    ("jawRight", 0.05, 0.5),
    ("jawForward", 0.05, 0.5),
    ("tongueOut", 0.02, 0.8),
)
LAUGHS = 0.25  # share of faces that laugh, and show their upper teeth
ASIDE = 0.3  # share of portraits that may be taken from the side
LEANS = 0.2  # share of pictures in which all of the person has moved
LARGEST_TURN = np.radians([45.0, 28.0, 28.0])  # yaw, pitch, roll in one picture


def _nothing() -> np.ndarray:
    return np.zeros(3)


@dataclass(frozen=True)
class Motion:
    """One frame of a person. Angles are radians: yaw, pitch, roll about y, x, z."""

    expression: np.ndarray  # (E,) 0..1
    head: np.ndarray  # (3,) yaw, pitch, roll of the skull in camera space
    bust: np.ndarray  # (3,) the same of the shoulders
    sway: np.ndarray  # (3,) metres by which the shoulders moved
    loose: np.ndarray = field(
        default_factory=_nothing
    )  # (3,) metres by which hair and clothes hang otherwise
    light: np.ndarray = field(default_factory=_nothing)  # (3,) logarithmic change of both lamps and the sky


def random_expression(random: np.random.Generator, head: HeadModel, strength: float = 1.0) -> np.ndarray:
    """Sparse: a few actions at a time, both sides nearly alike, both eyes looking the same way."""
    names = head.expression_names
    values = np.zeros(len(names), np.float32)
    for name, probability, largest in ACTIONS:
        if random.random() >= probability:
            continue
        value = random.beta(0.9, 1.2) * largest * strength
        sides = [n for n in (name, f"{name}Left", f"{name}Right") if n in names]
        lone = name == "eyeBlink" and random.random() < 0.08  # a wink
        for n in sides[:1] if lone else sides:
            values[names.index(n)] = np.clip(value + random.normal() * 0.06, 0, 1)
    if values[names.index("jawOpen")] > 0.1 and random.random() < 0.5:  # lips part and show the teeth
        for name, largest in (("mouthUpperUp", 0.7), ("mouthLowerDown", 0.6)):
            lift = random.uniform(0, largest) * strength
            for side in ("Left", "Right"):
                index = names.index(f"{name}{side}")
                values[index] = max(values[index], lift)
    if random.random() < LAUGHS:
        _laugh(random, values, names)
    if random.random() < 0.1:
        values[random.integers(len(names))] = random.uniform(0, 0.8) * strength
    look(values, names, *(random.normal(0, 0.35, 2) * strength))
    return values


def _laugh(random: np.random.Generator, values: np.ndarray, names: tuple[str, ...]) -> None:
    """Lip corners and the upper lip up, off the teeth; half of the time with the mouth open."""
    smile, lift, drop = random.uniform(0.3, 1), random.uniform(0.4, 1), random.uniform(0, 0.5)
    for name, value in (("mouthSmile", smile), ("mouthUpperUp", lift), ("mouthLowerDown", drop)):
        for side in ("Left", "Right"):
            values[names.index(f"{name}{side}")] = value
    values[names.index("jawOpen")] = random.uniform(0, 0.3 if random.random() < 0.5 else 0.8)
    for name in ("mouthClose", "mouthPucker", "mouthFunnel", "mouthRollLower", "mouthRollUpper"):
        values[names.index(name)] = 0


def look(values: np.ndarray, names: tuple[str, ...], aside: float, up: float) -> None:
    """Set the gaze: `aside` to the person's right, `up`, both -1..1."""
    for name, value in (
        ("eyeLookOutRight", aside),
        ("eyeLookInLeft", aside),
        ("eyeLookInRight", -aside),
        ("eyeLookOutLeft", -aside),
        ("eyeLookUpLeft", up),
        ("eyeLookUpRight", up),
        ("eyeLookDownLeft", -up),
        ("eyeLookDownRight", -up),
    ):
        values[names.index(name)] = np.clip(value, 0, 0.9)


def single_pictures(random: np.random.Generator, head: HeadModel, targets: int) -> list[Motion]:
    """The portrait first, then `targets` pictures without an order, most within 25 degrees of it."""
    aside = 0.50 if random.random() < ASIDE else 0.20
    own = np.clip(random.normal(0, [aside, 0.10, 0.07]), -LARGEST_TURN, LARGEST_TURN)
    bust = own * random.uniform(0, 0.9) + random.normal(0, [0.10, 0.03, 0.03])
    still, busy = random.random() < 0.35, random.random() < 0.4  # the shoulders
    hang, drift = _amount(random, 0.6, 0.010), _amount(random, 0.5, 0.15)
    quiet = random_expression(random, head, 0.35 if random.random() < 0.6 else 1.0)
    motions = [Motion(quiet, own, bust, np.zeros(3))]
    for _ in range(targets):
        kind = random.random()
        spread = 0.05 if kind < 0.2 else 0.19 if kind < 0.88 else 0.40
        change = random.normal(0, spread * np.array([1.0, 0.65, 0.5]))
        sway = np.zeros(3) if still else random.normal(0, [0.004, 0.003, 0.004]) * (3 if busy else 1)
        if random.random() < LEANS:
            sway = sway + random.normal(0, [0.030, 0.020, 0.030])
        turned = np.clip(own + change, -LARGEST_TURN, LARGEST_TURN)
        follow = bust + random.uniform(0, 0.4 if busy else 0.15) * (turned - own) * (not still)
        loose, light = random.normal(0, hang, 3), random.normal(0, drift, 3)
        motions.append(Motion(random_expression(random, head), turned, follow, sway, loose, light))
    return motions


def _amount(random: np.random.Generator, probability: float, largest: float) -> float:
    """0, or with a probability something up to `largest`."""
    return random.uniform(0, largest) if random.random() < probability else 0.0


def smooth_motion(random: np.random.Generator, head: HeadModel, frames: int, fps: float) -> list[Motion]:
    """The portrait first, then `frames` consecutive frames: turns, talk and blinks at natural speeds."""
    start = single_pictures(random, head, 1)
    portrait, near = start
    names = head.expression_names
    seconds = np.arange(frames) / fps
    speed = random.uniform(0.2, 1.5)  # changes of direction a second
    head_path = _path(random, seconds, speed, 3) * 0.12 * random.uniform(0.1, 1.5) * np.array([1, 0.6, 0.4])
    sway = _path(random, seconds, 0.5, 3) * random.uniform(0, 0.006)
    loose = _path(random, seconds, 1.0, 3) * _amount(random, 0.6, 0.006)
    light = _path(random, seconds, 0.5, 3) * _amount(random, 0.4, 0.10)
    keys = [random_expression(random, head, random.uniform(0.3, 1)) for _ in range(3)]
    weights = _path(random, seconds, random.uniform(0.5, 2.5), 3)
    weights = np.exp(2 * weights) / np.exp(2 * weights).sum(1, keepdims=True)
    faces = (weights[..., None] * np.stack(keys)).sum(1)
    if random.random() < 0.7:
        _talk(random, faces, names, seconds)
    if random.random() < 0.5:
        _blink(random, faces, names, fps)
    base = portrait.head + (near.head - portrait.head) * random.uniform(0, 1)
    turns = np.clip(base + head_path, -LARGEST_TURN, LARGEST_TURN)
    moved = [
        Motion(np.clip(face, 0, 1).astype(np.float32), turn, portrait.bust, *rest)
        for face, turn, *rest in zip(faces, turns, sway, loose, light, strict=True)
    ]
    return [portrait, *moved]


def _path(random: np.random.Generator, seconds: np.ndarray, speed: float, channels: int) -> np.ndarray:
    """Smooth random paths (F, channels) of about unit size: a few sines of random phases."""
    rate = speed * random.uniform(0.4, 2.0, (4, channels))
    phase = random.uniform(0, 2 * np.pi, (4, channels))
    return np.sin(2 * np.pi * rate * seconds[:, None, None] + phase).sum(1) / 2


def _talk(
    random: np.random.Generator, faces: np.ndarray, names: tuple[str, ...], seconds: np.ndarray
) -> None:
    rate = random.uniform(2.5, 5.0)
    for name, size in (
        ("jawOpen", 0.5),
        ("mouthFunnel", 0.4),
        ("mouthStretchLeft", 0.3),
        ("mouthPucker", 0.4),
    ):
        size = size * random.uniform(0.1, 1)
        wave = np.clip(
            np.sin(2 * np.pi * rate * random.uniform(0.5, 1) * seconds + random.uniform(0, 6)), 0, 1
        )
        for n in (name, name.replace("Left", "Right")) if name.endswith("Left") else (name,):
            faces[:, names.index(n)] += size * wave


def _blink(random: np.random.Generator, faces: np.ndarray, names: tuple[str, ...], fps: float) -> None:
    """Closing in 0.1 s, opening in 0.2 s."""
    middle = random.uniform(0, len(faces))
    after = (np.arange(len(faces)) - middle) / fps
    closed = np.clip(1 - np.where(after < 0, -after / 0.1, after / 0.2), 0, 1)
    for side in ("Left", "Right"):
        column = names.index(f"eyeBlink{side}")
        faces[:, column] = np.maximum(faces[:, column], closed)


def turn_matrix(angles: np.ndarray) -> Tensor:  # (3, 3)
    """Rotation of yaw, pitch, roll: first about y, then x, then z."""
    yaw, pitch, roll = (float(angle) for angle in angles)
    about = torch.tensor([[0.0, yaw, 0.0], [pitch, 0.0, 0.0], [0.0, 0.0, roll]])
    y, x, z = axis_angle_to_matrix(about)
    return z @ x @ y
