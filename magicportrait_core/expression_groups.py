"""Which expression coefficients belong to the mouth, the brows, the lids...: groups by ARKit name."""

from __future__ import annotations

GROUPS = ("jaw", "mouth", "brows", "lids", "gaze")
# Beginnings of ARKit names; the first that fits decides. mouthClose shuts lips that jawOpen parted, so it
# goes with the jaw; cheeks and nose wings follow the lips.
PREFIXES = (
    ("jaw", "jaw"),
    ("mouthClose", "jaw"),
    ("mouth", "mouth"),
    ("cheek", "mouth"),
    ("nose", "mouth"),
    ("tongue", "mouth"),
    ("brow", "brows"),
    ("eyeLook", "gaze"),
    ("eye", "lids"),
)


def is_arkit(names: tuple[str, ...]) -> bool:
    """True for a basis with ARKit names, whose coefficients run from 0 to 1."""
    return "jawOpen" in names and "eyeBlinkLeft" in names


def group_of(name: str) -> str:
    """The group of an ARKit expression; names that fit nowhere move with the mouth."""
    return next((group for prefix, group in PREFIXES if name.startswith(prefix)), "mouth")
