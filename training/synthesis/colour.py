"""Linear light and sRGB, as numpy arrays."""

from __future__ import annotations

import numpy as np

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)  # of linear Rec. 709 primaries


def to_linear(encoded: np.ndarray) -> np.ndarray:
    """sRGB 0..1 to linear light (IEC 61966-2-1)."""
    encoded = np.clip(encoded, 0, 1).astype(np.float32)
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def to_encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB 0..1, highlights rolled off softly above 0.7 as cameras do."""
    linear = np.maximum(linear, 0).astype(np.float32)
    over = np.maximum(linear - 0.7, 0)
    linear = np.minimum(linear, 0.7) + 0.3 * over / (0.3 + over)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def luminance(linear: np.ndarray) -> np.ndarray:  # (..., 3) -> (...)
    return linear @ LUMINANCE


def levels(encoded: np.ndarray) -> np.ndarray:
    """0..1 to 8 bits."""
    return (np.clip(encoded, 0, 1) * 255 + 0.5).astype(np.uint8)
