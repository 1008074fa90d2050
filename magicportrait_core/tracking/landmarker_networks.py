"""The three networks of the MediaPipe face landmarker as plain torch modules.

Architectures read from `face_landmarker.task` (float16, version 1; Apache-2.0): a BlazeFace short-range
detector, a mesh network for 478 points on a 256-pixel crop, and an MLP-Mixer from points to blendshapes.
Modules are registered in the order in which the file's graph runs them: `scripts/convert_landmarker.py`
relies on it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DETECTOR_SIZE = 128  # pixels, side of the detector's picture
MESH_SIZE = 256  # pixels, side of the mesh network's crop
NUM_POINTS = 478

# BlazeFace short range: (channels in, channels out, stride) of each block. Scores and boxes are read from
# the 16x16 cells after block 10 (two anchors a cell) and from the 8x8 cells after the last (six a cell).
DETECTOR_BLOCKS = (
    *((24, 24, 1), (24, 28, 1), (28, 32, 2), (32, 36, 1), (36, 42, 1), (42, 48, 2), (48, 56, 1), (56, 64, 1)),
    *((64, 72, 1), (72, 80, 1), (80, 88, 1), (88, 96, 2), (96, 96, 1), (96, 96, 1), (96, 96, 1), (96, 96, 1)),
)
DETECTOR_FINE_BLOCKS = 11
VALUES_PER_ANCHOR = 16  # centre x, y, width, height, and six points x, y

# Mesh network: channels of each level from 128x128 down to 2x2; a level holds four blocks, and every level
# but the first is entered through a halving block.
MESH_LEVELS = (16, 32, 64, 128, 128, 128, 128)
MESH_BLOCKS_PER_LEVEL = 4
MESH_BOTTLENECK_CHANNELS = 64  # at most; otherwise half of the level's channels

# Points the blendshape network reads (face_blendshapes_graph.cc, kLandmarksSubsetIdxs).
# fmt: off
BLENDSHAPE_POINTS = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70,
    78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149,
    150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195,
    197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300,
    308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375,
    377, 378, 379, 380, 381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454,
    466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)
BLENDSHAPE_NAMES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft",
    "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight",
    "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight",
    "mouthFrownLeft", "mouthFrownRight", "mouthFunnel", "mouthLeft", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight", "mouthRollLower",
    "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft",
    "noseSneerRight",
)
# fmt: on


def pad_like_tensorflow(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's "SAME": where the padding is odd, the extra row and column come last."""
    amounts = []
    for length in (x.shape[-1], x.shape[-2]):
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts) if any(amounts) else x


def widen(x: Tensor, channels: int) -> Tensor:
    """Appends zero channels; how a shortcut enters a block with more channels than it has."""
    return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1])) if channels > x.shape[1] else x


class DetectorBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(
            inputs, inputs, 3, stride, padding=int(stride == 1), groups=inputs, bias=False
        )
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            shortcut, inner = x, x
        else:
            shortcut, inner = F.max_pool2d(x, 2), pad_like_tensorflow(x, 3, self.stride)
        inner = self.pointwise(self.depthwise(inner))
        return F.relu(inner + widen(shortcut, inner.shape[1]))


class FaceDetector(nn.Module):
    """BlazeFace, short range."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, 2)
        self.blocks = nn.ModuleList(DetectorBlock(*block) for block in DETECTOR_BLOCKS)
        self.score_fine = nn.Conv2d(88, 2, 1)
        self.score_coarse = nn.Conv2d(96, 6, 1)
        self.box_fine = nn.Conv2d(88, 2 * VALUES_PER_ANCHOR, 1)
        self.box_coarse = nn.Conv2d(96, 6 * VALUES_PER_ANCHOR, 1)

    def forward(
        self,
        pictures: Tensor,  # (B, 3, 128, 128) in [-1, 1]
    ) -> tuple[Tensor, Tensor]:  # logits (B, 896) and boxes (B, 896, 16), anchors in cell order
        x = F.relu(self.stem(pad_like_tensorflow(pictures, 5, 2)))
        for block in self.blocks[:DETECTOR_FINE_BLOCKS]:
            x = block(x)
        fine = x
        for block in self.blocks[DETECTOR_FINE_BLOCKS:]:
            x = block(x)
        logits = (per_anchor(self.score_fine(fine), 1), per_anchor(self.score_coarse(x), 1))
        boxes = (
            per_anchor(self.box_fine(fine), VALUES_PER_ANCHOR),
            per_anchor(self.box_coarse(x), VALUES_PER_ANCHOR),
        )
        return torch.cat(logits, 1)[..., 0], torch.cat(boxes, 1)


def per_anchor(x: Tensor, values: int) -> Tensor:
    """(B, anchors * values, h, w) -> (B, h * w * anchors, values)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)


class MeshBlock(nn.Module):
    """Bottleneck block; `stride` 2 halves the picture and may widen the shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride = stride
        inner = min(outputs // 2, MESH_BOTTLENECK_CHANNELS)
        self.reduce = nn.Conv2d(inputs, inner, stride, stride)
        self.reduce_activation = nn.PReLU(inner)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.expand = nn.Conv2d(inner, outputs, 1)
        self.activation = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.expand(self.depthwise(self.reduce_activation(self.reduce(x))))
        shortcut = x if self.stride == 1 else widen(F.max_pool2d(x, 2), inner.shape[1])
        return self.activation(inner + shortcut)


class FaceMesh(nn.Module):
    """478 points and the logit of "this crop shows a face"."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, MESH_LEVELS[0], 3, 2)
        self.stem_activation = nn.PReLU(MESH_LEVELS[0])
        self.levels = nn.ModuleList()
        for level, channels in enumerate(MESH_LEVELS):
            entry = [MeshBlock(MESH_LEVELS[level - 1], channels, 2)] if level else []
            blocks = [MeshBlock(channels, channels, 1) for _ in range(MESH_BLOCKS_PER_LEVEL)]
            self.levels.append(nn.Sequential(*entry, *blocks))
        self.presence = nn.Conv2d(MESH_LEVELS[-1], 1, 2)
        self.points = nn.Conv2d(MESH_LEVELS[-1], NUM_POINTS * 3, 2)

    def forward(
        self,
        crops: Tensor,  # (B, 3, 256, 256) in [0, 1]
    ) -> tuple[Tensor, Tensor]:  # points (B, 478, 3) in crop pixels, logits (B,)
        x = self.stem_activation(self.stem(pad_like_tensorflow(crops, 3, 2)))
        for level in self.levels:
            x = level(x)
        return self.points(x).reshape(-1, NUM_POINTS, 3), self.presence(x).reshape(-1)


class MixerBlock(nn.Module):
    """One MLP over the tokens of a channel, then one over the channels of a token."""

    def __init__(self, tokens: int, channels: int, token_hidden: int, channel_hidden: int):
        super().__init__()
        self.token_norm = nn.LayerNorm(channels, eps=1e-6, bias=False)
        self.token_in = nn.Linear(tokens, token_hidden)
        self.token_out = nn.Linear(token_hidden, tokens)
        self.channel_norm = nn.LayerNorm(channels, eps=1e-6, bias=False)
        self.channel_in = nn.Linear(channels, channel_hidden)
        self.channel_out = nn.Linear(channel_hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.token_norm(x).transpose(1, 2)
        x = x + self.token_out(F.relu(self.token_in(mixed))).transpose(1, 2)
        return x + self.channel_out(F.relu(self.channel_in(self.channel_norm(x))))


class AnswerToken(nn.Module):
    """Puts a learnt token first: the one the coefficients are read from."""

    def __init__(self, channels: int):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, channels))

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.cat((self.token.expand(tokens.shape[0], -1, -1), tokens), 1)


class FaceBlendshapes(nn.Module):
    """52 expression coefficients of 146 points; their unit and place in the picture do not matter."""

    def __init__(self, tokens: int = 96, channels: int = 64, blocks: int = 4):
        super().__init__()
        self.points_to_tokens = nn.Linear(len(BLENDSHAPE_POINTS), tokens)
        self.embed = nn.Linear(2, channels)
        self.answer = AnswerToken(channels)
        self.blocks = nn.Sequential(*(MixerBlock(tokens + 1, channels, 384, 256) for _ in range(blocks)))
        self.head = nn.Linear(channels, len(BLENDSHAPE_NAMES))

    def forward(
        self,
        points: Tensor,  # (B, 146, 2) BLENDSHAPE_POINTS, pixels of the picture
    ) -> Tensor:  # (B, 52) 0..1
        points = points - points.mean(1, keepdim=True)
        points = points / points.norm(dim=-1, keepdim=True).mean(1, keepdim=True) * 0.5  # 0.5: as trained
        tokens = self.embed(self.points_to_tokens(points.transpose(1, 2)).transpose(1, 2))
        return self.head(self.blocks(self.answer(tokens))[:, 0]).sigmoid()


class FaceLandmarkNetworks(nn.Module):
    """The three networks under the key prefixes of the asset file."""

    def __init__(self):
        super().__init__()
        self.detector = FaceDetector()
        self.mesh = FaceMesh()
        self.blendshapes = FaceBlendshapes()
