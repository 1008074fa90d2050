"""Reads the weights of TensorFlow Lite graphs without TensorFlow."""

from __future__ import annotations

import struct

import numpy as np
import torch

# TFLite schema: operator codes and tensor types that hold weights here.
CONCATENATION, CONV_2D, DEPTHWISE_CONV_2D, DEQUANTIZE, MUL, CUSTOM, PRELU = 2, 3, 4, 6, 18, 32, 54
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32}


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


def weights_in_order(
    tflite: bytes,
    depthwise_biases: bool = True,  # False: the module has none, and the graph's are all zero
    without: tuple[str, ...] = (),  # prefixes of the names of weights that are left out
) -> list[np.ndarray]:
    """Weights of a graph in the order in which it uses them, axes in torch's order.

    A custom operator is taken for MediaPipe's transposed convolution with bias, the only one it knows here.
    """
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
        elif code == CONV_2D and not names[inputs[1]].startswith(without):
            weights += [constants[inputs[1]].transpose(0, 3, 1, 2), constants[inputs[2]]]
        elif code == DEPTHWISE_CONV_2D:
            weights.append(constants[inputs[1]].transpose(3, 0, 1, 2))
            if depthwise_biases:
                weights.append(constants[inputs[2]])
            elif constants[inputs[2]].any():
                raise ValueError(f"{names[inputs[2]]} is not zero; the module has no bias there")
        elif code == CUSTOM:
            weights += [constants[inputs[1]].transpose(3, 0, 1, 2), constants[inputs[2]]]
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
