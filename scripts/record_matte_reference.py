"""Records what the original person matte sees: tests/golden/person_matte_reference.safetensors.

    python scripts/record_matte_reference.py GRAPH [--packages SITE_PACKAGES]

Needs ai-edge-litert 2.3, Pillow and safetensors. GRAPH is `selfie_segmentation.tflite` of the npm package
@mediapipe/selfie_segmentation 0.1.1675465747. The picture is scikit-image's astronaut, which SITE_PACKAGES
holds; only numbers are written, as levels 0..255.
"""

from __future__ import annotations

import argparse
import json
import sysconfig
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from safetensors.numpy import save_file

TARGET = Path(__file__).resolve().parents[1] / "tests" / "golden" / "person_matte_reference.safetensors"
PICTURE = "skimage/data/astronaut.png"
CROPS = ((0, 0, 256, 256), (128, 0, 384, 256))  # left, top, right, bottom: one is cut off, one is not
EVERY = 2  # pixels between those that are kept


def record(graph: Path, packages: Path) -> None:
    network = Interpreter(str(graph), num_threads=1)
    network.allocate_tensors()
    asked, answered = network.get_input_details()[0]["index"], network.get_output_details()[0]["index"]
    mattes = []
    with Image.open(packages / PICTURE) as picture:
        for crop in CROPS:
            pixels = np.asarray(picture.convert("RGB").crop(crop), np.float32) / 255
            network.set_tensor(asked, pixels[None])
            network.invoke()
            mattes.append(network.get_tensor(answered)[0, ::EVERY, ::EVERY, 0])
    levels = (np.stack(mattes) * 255).round().astype(np.uint8)
    note = {"made_by": "scripts/record_matte_reference.py", "ai-edge-litert": version("ai-edge-litert")}
    note |= {"file": PICTURE, "crops": CROPS, "every": EVERY}
    save_file({"mattes": levels}, TARGET, metadata={"reference": json.dumps(note)})
    print(f"{TARGET.name}: {levels.shape}, mean {levels.mean():.2f}, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("graph", type=Path)
    parser.add_argument("--packages", type=Path, default=Path(sysconfig.get_paths()["purelib"]))
    arguments = parser.parse_args()
    record(arguments.graph, arguments.packages)
