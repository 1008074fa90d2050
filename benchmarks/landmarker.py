"""CPU time of the face landmarker on one core: python scripts/host.py run -m benchmarks.landmarker [picture]

Without a picture scikit-image's astronaut is used, at 512x512 and enlarged to fill a 1920x1080 frame.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from magicportrait_core.media.image import load_image, resize
from magicportrait_core.tracking.landmarker import load_landmarker
from magicportrait_core.tracking.landmarker_networks import BLENDSHAPE_POINTS, DETECTOR_SIZE, MESH_SIZE

ROUNDS = 20


def milliseconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median CPU time, which a busy machine disturbs less than the clock."""
    work()
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return median(times) * 1000


@torch.inference_mode()
def main(picture: Path) -> None:
    torch.set_num_threads(1)
    landmarker = load_landmarker()
    networks = landmarker.networks
    image = resize(load_image(picture), (512, 512))
    large = F.pad(resize(image, (1080, 1080)), (420, 420))
    pictures = torch.rand(1, 3, DETECTOR_SIZE, DETECTOR_SIZE).contiguous(memory_format=torch.channels_last)
    crops = torch.rand(1, 3, MESH_SIZE, MESH_SIZE).contiguous(memory_format=torch.channels_last)
    points = torch.rand(1, len(BLENDSHAPE_POINTS), 2)
    face, large_face = landmarker.observe(image), landmarker.observe(large)
    nothing = torch.zeros_like(large)
    rows = {
        "detector network": lambda: networks.detector(pictures),
        "mesh network": lambda: networks.mesh(crops),
        "blendshape network": lambda: networks.blendshapes(points),
        "first frame, 512x512": lambda: landmarker.observe(image),
        "followed face, 512x512": lambda: landmarker.observe(image, face),
        "followed face, 1920x1080": lambda: landmarker.observe(large, large_face),
    }
    for name, work in rows.items():
        print(f"{name:32s} {milliseconds(work):7.2f} ms")
    spent = milliseconds(lambda: landmarker.observe(nothing), rounds=3)
    print(f"{'no face, thorough, 1920x1080':32s} {spent:7.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?", type=Path)
    chosen = parser.parse_args().picture
    if chosen is None:
        folder = Path(importlib.util.find_spec("skimage").submodule_search_locations[0])
        chosen = folder / "data" / "astronaut.png"
    main(chosen)
