"""How far DECA's crops lie from those of a 68-point detector, on real faces.

    pip install dlib-bin face-recognition-models
    python scripts/host.py run -m benchmarks.landmarks_68

dlib's detector stands for the released system's (face-alignment's FAN, whose weights are a download): both
were trained on the iBUG points. Differences are in shares of the side of dlib's crop.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from skimage import data  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.tracking import CLIPS, package_file  # noqa: E402
from magicportrait_core.media.image import from_levels, to_levels  # noqa: E402
from magicportrait_core.media.video import open_video  # noqa: E402
from magicportrait_core.tracking.face_region import overlap  # noqa: E402
from magicportrait_core.tracking.landmarker import load_landmarker  # noqa: E402
from magicportrait_core.tracking.landmarks_68_of_478 import landmarks_68  # noqa: E402
from magicportrait_core.tracking.released_crops import DECA_MARGIN, box_of  # noqa: E402

FRAMES = 14  # of each clip, spread over it


def main() -> None:
    try:
        import dlib
    except ImportError:
        import _dlib_pybind11 as dlib
    folder = importlib.util.find_spec("face_recognition_models").submodule_search_locations[0]
    find = dlib.get_frontal_face_detector()
    shape = dlib.shape_predictor(str(Path(folder) / "models" / "shape_predictor_68_face_landmarks.dat"))
    landmarker = load_landmarker()
    rows = []
    for picture in pictures():
        levels = to_levels(picture).numpy()
        for face in landmarker.observe(picture, None, 4):
            seen = [r for r in find(levels, 1) if overlap(corners(r), face.box) > 0.3]
            if seen:
                parts = shape(levels, seen[0])
                theirs = torch.tensor([[parts.part(i).x, parts.part(i).y] for i in range(68)]).float()
                rows.append(compare(box_of(landmarks_68(face.points)), box_of(theirs)))
    ratio, across, down, shared = np.array(rows).T
    print(f"{len(rows)} faces")
    for name, values in (
        ("side", ratio),
        ("centre across", across),
        ("centre down", down),
        ("overlap", shared),
    ):
        print(
            f"  {name:14} mean {values.mean():+.3f}, deviation {values.std():.3f}, {values.min():+.3f} to "
            f"{values.max():+.3f}"
        )


def pictures() -> Iterator[Tensor]:
    yield from_levels(torch.from_numpy(data.astronaut()))
    for path in filter(None, map(package_file, CLIPS)):
        with open_video(path) as video:
            frames = list(video)
        for number in np.linspace(0, len(frames) - 1, FRAMES).astype(int):
            yield frames[number]


def corners(r) -> tuple[float, float, float, float]:
    return r.left(), r.top(), r.right(), r.bottom()


def compare(ours, theirs) -> tuple[float, float, float, float]:
    """Side over side, centre minus centre in sides, and intersection over union of the two crops."""
    (x, y, side), (x68, y68, side68) = square(ours), square(theirs)
    shared = overlap(
        *(
            (cx - s / 2, cy - s / 2, cx + s / 2, cy + s / 2)
            for cx, cy, s in ((x, y, side), (x68, y68, side68))
        )
    )
    return side / side68, (x - x68) / side68, (y - y68) / side68, shared


def square(box) -> tuple[float, float, int]:
    left, top, right, bottom = box
    return (left + right) / 2, (top + bottom) / 2, int(DECA_MARGIN * (right - left + bottom - top) / 2)


if __name__ == "__main__":
    main()
