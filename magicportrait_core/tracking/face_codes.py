"""Faces through DECA's and SMIRK's encoders, several at a time, while a clip is read once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .deca import CODE_SIZES, DecaCodes, DecaEncoder, deca_codes
from .landmarks_68_of_478 import landmarks_68
from .released_crops import Box, CropRules, box_of, deca_crop, smirk_crop
from .smirk import SmirkCodes, SmirkExpressionEncoder, smirk_codes


@dataclass(frozen=True)
class FaceCodes:
    """What both encoders say of N faces."""

    deca: DecaCodes
    smirk: SmirkCodes
    transform: Tensor  # (N, 3, 3) DECA's crop -> pixels of a picture of `size`, for row vectors
    size: tuple[int, int]  # height, width at which DECA read the pictures

    def __getitem__(self, faces: Tensor) -> FaceCodes:
        deca = DecaCodes(**{name: value[faces] for name, value in vars(self.deca).items()})
        smirk = SmirkCodes(**{name: value[faces] for name, value in vars(self.smirk).items()})
        return FaceCodes(deca, smirk, self.transform[faces], self.size)


class FaceReader:
    """Cuts faces out as they come and encodes them once enough have come together.

    Keeps crops of at most one batch, and a kilobyte of codes a face.
    """

    def __init__(self, deca: DecaEncoder, smirk: SmirkExpressionEncoder, rules: CropRules, batch: int):
        self._deca, self._smirk, self._rules, self._batch = deca, smirk, rules, batch
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._rows: list[Tensor] = []
        self._transforms: list[Tensor] = []
        self._size = (0, 0)

    def add(
        self,
        picture: Tensor,  # (3, H, W) in [-1, 1], of one size
        points: Tensor,  # (478, 3) pixels
        deca_box: Box | None = None,  # of 68 landmarks by another detector
    ) -> int:
        """The number of the face among all that were added."""
        box = box_of(landmarks_68(points)) if deca_box is None else deca_box
        cut = deca_crop(picture, box, self._rules)
        self._waiting.append((cut.picture, smirk_crop(picture, box_of(points), self._rules).picture))
        self._transforms.append(cut.transform)
        self._size = cut.size
        if len(self._waiting) >= self._batch:
            self._encode()
        return len(self._transforms) - 1

    def codes(self) -> FaceCodes:
        """Of all faces that were added, in their order, on the CPU."""
        self._encode()
        rows = torch.cat(self._rows)
        deca, smirk = rows[:, : sum(CODE_SIZES)], rows[:, sum(CODE_SIZES) :]
        return FaceCodes(deca_codes(deca), smirk_codes(smirk), torch.stack(self._transforms), self._size)

    @torch.no_grad()
    def _encode(self) -> None:
        if not self._waiting:
            return
        crops = zip(*self._waiting, strict=True)
        outputs = [
            _run(network, torch.stack(pictures))
            for network, pictures in zip((self._deca, self._smirk), crops, strict=True)
        ]
        rows = torch.cat(outputs, 1)
        if not bool(rows.isfinite().all()):
            raise ValueError(
                "an encoder gave values that are not numbers; load the encoders in float32 or bfloat16"
            )
        self._rows.append(rows)
        self._waiting.clear()


def _run(network: DecaEncoder | SmirkExpressionEncoder, crops: Tensor) -> Tensor:
    weight = next(network.parameters())
    crops = crops.to(weight.device, weight.dtype, memory_format=torch.channels_last)
    return network(crops).float().cpu()
