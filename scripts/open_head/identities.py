"""Draws random people from MakeHuman's sliders and reduces them to principal components."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from .makehuman import MakeHuman

# Spread of the modelling sliders by folder. Twice as much makes caricatures.
SPREAD = {
    "head": 0.13, "eyes": 0.2, "nose": 0.2, "mouth": 0.18, "chin": 0.18, "cheek": 0.2,
    "forehead": 0.2, "eyebrows": 0.2, "ears": 0.2, "neck": 0.12, "asym": 0.12,
}  # fmt: skip
OPPOSITES = (
    ("-decr", "-incr"), ("-down", "-up"), ("-in", "-out"), ("-backward", "-forward"),
    ("-concave", "-convex"), ("-compress", "-uncompress"),
)  # fmt: skip
SIGN_SEED = 7
SIDES_DIFFER = 0.06  # how much a slider's left and right halves differ in one person


class People:
    """Random people as vertices of the head (a linear map of base vertices), in the neutral head's place."""

    def __init__(self, source: MakeHuman, matrix: csr_matrix, anchors: np.ndarray):
        self.source, self.matrix = source, matrix
        self.anchors = anchors  # (V,) bool: vertices by which people are laid over one another
        self.neutral = matrix @ source.character()
        self.groups = _slider_groups(source)
        names = {n for group in self.groups.values() for pair in group for n in pair if n}
        self.moves = {name: matrix @ source.slider(name) for name in sorted(names)}

    def draw(self, random: np.random.Generator) -> np.ndarray:  # (V, 3)
        """One person."""
        person = self.matrix @ self.source.character(
            gender=random.beta(0.35, 0.35),
            age=float(np.clip(random.beta(1.6, 1.6) * 0.75 + 0.3, 0.3, 0.98)),
            race=tuple(random.dirichlet([0.35] * 3)),
            muscle=float(np.clip(random.normal(0.5, 0.2), 0, 1)),
            weight=float(np.clip(random.normal(0.5, 0.22), 0, 1)),
        )
        for (folder, _), group in self.groups.items():
            value = random.normal(0, SPREAD[folder])
            for low, high in group:
                amount = np.clip(value + random.normal(0, SIDES_DIFFER if len(group) > 1 else 0), -1, 1)
                if high is None:
                    person += 0.8 * max(amount, 0) * self.moves[low]
                else:
                    person += abs(amount) * self.moves[high if amount > 0 else low]
        return self._laid_over(person)

    def _laid_over(self, person: np.ndarray) -> np.ndarray:
        """The person turned and moved (not scaled) onto the neutral head (Kabsch)."""
        mine, theirs = person[self.anchors], self.neutral[self.anchors]
        a, b = mine.mean(0), theirs.mean(0)
        u, _, vt = np.linalg.svd((mine - a).T @ (theirs - b))
        flip = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
        return (person - a) @ (u @ flip @ vt) + b


def _slider_groups(source: MakeHuman) -> dict[tuple[str, str], list[tuple[str, str | None]]]:
    """Sliders as (low, high) target pairs; the left and the right half of one feature are in one group."""
    groups: dict[tuple[str, str], list[tuple[str, str | None]]] = {}
    for folder in SPREAD:
        names, seen = source.sliders(folder), set()
        for name in names:
            if name in seen or name.startswith("asymm-") or (folder == "head" and "trans" in name):
                continue
            low, high = _pair(folder, name, set(names))
            seen |= {low, high}
            feature = low[2:] if low[:2] in ("l-", "r-") else low
            pair = (f"{folder}/{low}", f"{folder}/{high}" if high else None)
            groups.setdefault((folder, feature), []).append(pair)
    return groups


def _pair(folder: str, name: str, names: set[str]) -> tuple[str, str | None]:
    if folder == "asym":
        return (name, name[:-2] + "-r") if name.endswith("-l") else (name, None)
    for low, high in OPPOSITES:
        if name.endswith(low) and name[: -len(low)] + high in names:
            return name, name[: -len(low)] + high
        if name.endswith(high) and name[: -len(high)] + low in names:
            return name[: -len(high)] + low, name
    return name, None


def principal_components(samples: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean (D,), components (count, D) of unit standard deviation, explained share, of samples (N, D).

    Signs are fixed by a dot product with arbitrary numbers, so that a rebuild gives the same file. (The
    largest entry would not do: components are symmetric, so it has a twin of the other sign.) For the same
    reason components are rounded to a nanometre.
    """
    mean = samples.mean(0)
    centred = samples - mean
    values, vectors = np.linalg.eigh(centred @ centred.T)
    order = np.argsort(-values)
    values, vectors = values[order], vectors[:, order]
    components = (vectors[:, :count].T @ centred) / np.sqrt(len(samples) - 1)
    arbitrary = np.random.default_rng(SIGN_SEED).normal(size=components.shape[1])
    components *= np.sign(components @ arbitrary)[:, None]
    return mean, components.round(9), float(values[:count].sum() / values.sum())
