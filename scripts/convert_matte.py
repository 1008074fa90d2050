"""Writes the person matte's weights as safetensors: python scripts/convert_matte.py [tarball]

Source: `selfie_segmentation.tflite` (MediaPipe, float16, Apache-2.0) of the npm package
@mediapipe/selfie_segmentation 0.1.1675465747, which is fetched with `npm pack` when no path is given. The
weights keep the precision they have in the file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from magicportrait_core.matting.person_network import PersonNetwork  # noqa: E402
from scripts.tflite_weights import state_of, weights_in_order  # noqa: E402

PACKAGE = "@mediapipe/selfie_segmentation@0.1.1675465747"
MEMBER = "package/selfie_segmentation.tflite"
GRAPH_SHA256 = "8d13b7fae74af625c641226813616a2117bd6bca19eb3b75574621fc08557f27"
TARGET = ROOT / "magicportrait_core" / "assets" / "person_matte.safetensors"


def read_graph(tarball: Path | None) -> bytes:
    """The .tflite file of the package; raises ValueError when it is another one."""
    with tempfile.TemporaryDirectory() as folder:
        if tarball is None:
            subprocess.run(["npm", "pack", PACKAGE], cwd=folder, check=True)
            tarball = next(Path(folder).glob("*.tgz"))
        with tarfile.open(tarball) as archive:
            graph = archive.extractfile(MEMBER).read()
    if (digest := hashlib.sha256(graph).hexdigest()) != GRAPH_SHA256:
        raise ValueError(f"{MEMBER} has sha256 {digest}, expected {GRAPH_SHA256}: use {PACKAGE}")
    return graph


def convert(tarball: Path | None) -> None:
    tensors = state_of(PersonNetwork(), weights_in_order(read_graph(tarball)))
    provenance = {
        "name": "person_matte",
        "version": 1,
        "title": "MediaPipe selfie segmentation (float16), converted",
        "licence": "Apache-2.0",
        "copyright": "The MediaPipe Authors (Google)",
        "source": f"npm {PACKAGE}, {MEMBER}",
        "source_sha256": GRAPH_SHA256,
        "changes": "file format, tensor names, axis order",
        "made_by": "scripts/convert_matte.py",
    }
    TARGET.parent.mkdir(exist_ok=True)
    save_file(tensors, TARGET, metadata={"magicportrait": json.dumps(provenance)})
    digest = hashlib.sha256(TARGET.read_bytes()).hexdigest()
    print(f"{TARGET.name}: {len(tensors)} tensors, {TARGET.stat().st_size:,} bytes, sha256 {digest}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tarball", nargs="?", type=Path, help=f"path of the tarball of {PACKAGE}")
    convert(parser.parse_args().tarball)
