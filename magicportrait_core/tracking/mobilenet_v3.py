"""MobileNetV3 without squeeze-and-excite, as TensorFlow trained it: the backbone of SMIRK's encoders.

Howard et al. 2019, the "minimal" variants: kernels of 3, ReLU throughout. Names of the weights are those of
timm's tf_mobilenetv3_*_minimal_100 under features_only, which keeps everything before the pooling.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-3  # TensorFlow's
STEM = 16  # channels after the first convolution

Stages = tuple[tuple[tuple[int, int, int], ...], ...]
# Blocks of every stage: stride, channels inside, channels out.
LARGE: Stages = (
    ((1, 16, 16),),
    ((2, 64, 24), (1, 72, 24)),
    ((2, 72, 40), (1, 120, 40), (1, 120, 40)),
    ((2, 240, 80), (1, 200, 80), (1, 184, 80), (1, 184, 80)),
    ((1, 480, 112), (1, 672, 112)),
    ((2, 672, 160), (1, 960, 160), (1, 960, 160)),
)
LARGE_FEATURES = 960


class SameConv2d(nn.Conv2d):
    """3x3 with TensorFlow's "same" padding, which at stride 2 adds its odd row and column at the end."""

    def __init__(self, channels_in: int, channels: int, stride: int, groups: int = 1):
        even = 1 if stride == 1 else 0  # the convolution's own padding needs no copy
        super().__init__(channels_in, channels, 3, stride, even, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] > 1:
            height, width = (_padding(n, self.stride[0]) for n in x.shape[-2:])
            x = F.pad(x, (*width, *height))
        return super().forward(x)


class SeparableBlock(nn.Module):
    """Depthwise, then pointwise."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.conv_dw = SameConv2d(channels_in, channels_in, stride, groups=channels_in)
        self.bn1 = _norm(channels_in)
        self.conv_pw = _pointwise(channels_in, channels)
        self.bn2 = _norm(channels)
        self.skip = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv_pw(_relu(self.bn1(self.conv_dw(x)))))
        return x + y if self.skip else y


class InvertedResidual(nn.Module):
    """Expand, depthwise, project."""

    def __init__(self, channels_in: int, inside: int, channels: int, stride: int):
        super().__init__()
        self.conv_pw = _pointwise(channels_in, inside)
        self.bn1 = _norm(inside)
        self.conv_dw = SameConv2d(inside, inside, stride, groups=inside)
        self.bn2 = _norm(inside)
        self.conv_pwl = _pointwise(inside, channels)
        self.bn3 = _norm(channels)
        self.skip = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        y = _relu(self.bn2(self.conv_dw(_relu(self.bn1(self.conv_pw(x))))))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.skip else y


class Widening(nn.Module):
    """The last layer: pointwise, to the features."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.conv = _pointwise(channels_in, channels)
        self.bn1 = _norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return _relu(self.bn1(self.conv(x)))


class MobileNetV3(nn.Module):
    """(B, 3, H, W) in 0..1 -> (B, features, H / 32, W / 32)."""

    def __init__(self, stages: Stages = LARGE, features: int = LARGE_FEATURES):
        super().__init__()
        self.conv_stem = SameConv2d(3, STEM, stride=2)
        self.bn1 = _norm(STEM)
        self.blocks, channels = nn.Sequential(), STEM
        for number, stage in enumerate(stages):
            blocks = nn.Sequential()
            for stride, inside, out in stage:
                if number == 0:
                    blocks.append(SeparableBlock(channels, out, stride))
                else:
                    blocks.append(InvertedResidual(channels, inside, out, stride))
                channels = out
            self.blocks.append(blocks)
        self.blocks.append(nn.Sequential(Widening(channels, features)))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.blocks(_relu(self.bn1(self.conv_stem(pictures))))


def _relu(x: Tensor) -> Tensor:
    return F.relu(x, inplace=True)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPS)


def _pointwise(channels_in: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, 1, bias=False)


def _padding(length: int, stride: int) -> tuple[int, int]:
    total = max((-(-length // stride) - 1) * stride + 3 - length, 0)
    return total // 2, total - total // 2
