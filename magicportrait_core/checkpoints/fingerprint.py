"""Fingerprints of weights: equal for equal numbers, wherever and in whatever files they are stored."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

SAMPLES = 64  # bytes of a tensor that are hashed as they are; all others count in a sum


class Fingerprint:
    """Gathers tensors; the order of adding them matters, the file that they come from does not."""

    def __init__(self):
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, name: str, tensor: Tensor) -> None:
        """A change of one value changes the sum, an exchange of values the samples (nearly always)."""
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        whole = data[: data.numel() // 8 * 8].view(torch.int64).sum().item()  # exact, wraps around
        rest = data[data.numel() // 8 * 8 :].tolist()
        samples = data[:: max(1, data.numel() // SAMPLES)].tolist()
        self.add_text(f"{name} {tensor.dtype} {tuple(tensor.shape)} {whole} {rest} {samples}")

    def add_text(self, text: str) -> None:
        self._hash.update(f"{text}\n".encode())

    def text(self) -> str:
        return self._hash.hexdigest()
