"""The network of MediaPipe's selfie segmentation as a plain torch module.

Architecture read from `selfie_segmentation.tflite` of the npm package @mediapipe/selfie_segmentation
0.1.1675465747 (Apache-2.0): MobileNetV3 blocks (Howard et al. 2019) down to 16x16 cells, a pooled gate, and
three upsampling stages that weigh what they take from the way down. Modules are registered in the order in
which the file's graph runs them: `scripts/convert_matte.py` relies on it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..tracking.landmarker_networks import pad_like_tensorflow

SIDE = 256  # pixels of the square picture


class Gate(nn.Module):
    """Squeeze and excitation (Hu et al. 2018): one factor 0..1 per channel, from the channels' means."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; with a shortcut where the sizes agree."""

    def __init__(
        self,
        inputs: int,
        inner: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        gate: int = 0,  # hidden channels of the gate; 0 for none
        smooth: bool = True,  # hard swish, else ReLU
    ):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.shortcut = stride == 1 and inputs == outputs
        self.activation = F.hardswish if smooth else F.relu
        self.widen = nn.Conv2d(inputs, inner, 1)
        self.depthwise = nn.Conv2d(inner, inner, kernel, stride, groups=inner)
        self.gate = Gate(inner, gate) if gate else None
        self.narrow = nn.Conv2d(inner, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.activation(self.widen(x))
        inner = self.depthwise(pad_like_tensorflow(inner, self.kernel, self.stride))
        inner = self.activation(inner)
        if self.gate is not None:
            inner = inner * self.gate(inner)
        narrow = self.narrow(inner)
        return x + narrow if self.shortcut else narrow


class Upsampling(nn.Module):
    """Twice the size, joined with the features of that size on the way down."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.project = nn.Conv2d(inputs, outputs, 1)
        self.gate = Gate(outputs, outputs)
        self.mix = nn.Conv2d(outputs, outputs, 1)
        self.depthwise = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.project(x)
        mixed = F.relu(self.mix(skip * self.gate(skip + x) + x))
        return mixed + F.relu(self.depthwise(mixed))


class PersonNetwork(nn.Module):
    """Probability of "person" for every pixel of a square picture."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2)
        self.entry = InvertedResidual(16, 16, 16, 3, 2, gate=8, smooth=False)
        self.shallow = nn.Sequential(
            InvertedResidual(16, 72, 24, 3, 2, smooth=False), InvertedResidual(24, 88, 24, 3, smooth=False)
        )
        self.deep = nn.Sequential(
            InvertedResidual(24, 96, 32, 5, 2, gate=24),
            InvertedResidual(32, 128, 32, 5, gate=32),
            InvertedResidual(32, 128, 32, 5, gate=32),
            InvertedResidual(32, 96, 32, 5, gate=24),
            InvertedResidual(32, 96, 32, 5, gate=24),
        )
        self.features = nn.Conv2d(32, 128, 1)
        self.scene = nn.Conv2d(32, 128, 1)
        self.up = nn.ModuleList((Upsampling(128, 24), Upsampling(24, 16), Upsampling(16, 16)))
        self.answer = nn.ConvTranspose2d(16, 1, 2, 2)

    def forward(
        self,
        pictures: Tensor,  # (B, 3, 256, 256) in [0, 1]
    ) -> Tensor:  # (B, 1, 256, 256) 0..1
        first = F.hardswish(self.stem(pad_like_tensorflow(pictures, 3, 2)))
        second = self.entry(first)
        third = self.shallow(second)
        deep = self.deep(third)
        x = F.relu(self.features(deep)) * self.scene(deep.mean((2, 3), keepdim=True)).sigmoid()
        for stage, skip in zip(self.up, (third, second, first), strict=True):
            x = stage(x, skip)
        return self.answer(x).sigmoid()
