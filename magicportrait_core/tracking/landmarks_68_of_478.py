"""The 68 points of the iBUG scheme among MediaPipe's 478.

iBUG 300-W (Sagonas et al. 2013) marks the jaw, brows, nose, eyes and lips; DECA's crop is a box around these
points. MediaPipe names no such set, so each iBUG point got the mesh point drawn at its place on the published
canonical face. The person's right, left in the picture, comes first.

Against dlib's 68-point detector on 57 real faces (benchmarks/landmarks_68.py) DECA's crop comes out 2.1 %
smaller (deviation 2.1 %) and lies 1.3 % of its side higher (0.9 %); the two squares share 94 % of their area.
The rest is the jaw, which iBUG draws on the outline and the mesh on the skin.
"""

from __future__ import annotations

from torch import Tensor

# fmt: off
POINTS = (
    127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356,  # jaw, ear to ear
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows
    168, 197, 5, 4, 98, 97, 2, 326, 327,  # nose: ridge, base
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lips
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lips
)
# fmt: on


def landmarks_68(
    points: Tensor,  # (..., 478, 2 or 3) pixels
) -> Tensor:  # (..., 68, 2) pixels
    """The iBUG points of observed faces."""
    return points[..., POINTS, :2]
