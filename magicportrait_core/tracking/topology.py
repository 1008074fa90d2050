"""Lines between the 478 points, by name, as in MediaPipe (FACEMESH_* connection sets)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

# fmt: off
# Chains of points; a chain that ends where it begins is a closed outline. Left and right are the person's.
CHAINS: dict[str, tuple[tuple[int, ...], ...]] = {
    "face_oval": ((
        10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148,
        176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 10,
    ),),
    "lips": (
        (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185, 61),
        (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78),
    ),
    "left_eye": ((263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466, 263),),
    "right_eye": ((33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 33),),
    "left_eyebrow": ((276, 283, 282, 295, 285), (300, 293, 334, 296, 336)),
    "right_eyebrow": ((46, 53, 52, 65, 55), (70, 63, 105, 66, 107)),
    "irises": ((474, 475, 476, 477, 474), (469, 470, 471, 472, 469)),
    "nose": (
        (168, 6, 197, 195, 5, 4, 1, 19, 94, 2), (98, 97, 2, 326, 327, 294, 278, 344, 440, 275, 4),
        (4, 45, 220, 115, 48, 64, 98),
    ),
}
# fmt: on
CONTOURS = ("face_oval", "left_eye", "right_eye", "left_eyebrow", "right_eyebrow", "lips")
HOLES = ("left_eye", "right_eye", "lips")  # the canonical mesh closes them; the wireframe does not

Connections = frozenset[tuple[int, int]]


def connection_sets(
    triangles: Tensor,  # (T, 3) of the canonical face
) -> dict[str, Connections]:
    """Every named set of lines, with their unions "contours" and "all" and the wireframe "tesselation"."""
    sets = {name: chain_lines(chains) for name, chains in CHAINS.items()}
    sets["contours"] = frozenset().union(*(sets[name] for name in CONTOURS))
    sets["all"] = sets["contours"] | sets["irises"] | sets["nose"]
    sets["tesselation"] = wireframe(triangles)
    return sets


def chain_lines(chains: tuple[tuple[int, ...], ...]) -> Connections:
    return frozenset(line for chain in chains for line in pairwise(chain))


def wireframe(triangles: Tensor) -> Connections:
    """Edges of the triangles, each once, without the fillings of eyes and mouth."""
    openings = [set(CHAINS[name][-1]) for name in HOLES]
    shown = [t for t in triangles.tolist() if not any(opening.issuperset(t) for opening in openings)]
    edges = (tuple(sorted((t[i], t[i - 1]))) for t in shown for i in range(3))
    return frozenset(edges)
