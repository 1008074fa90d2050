"""Points and coefficients against MediaPipe 1.2 in image mode on real frames.

The numbers were made by scripts/record_mediapipe_reference.py.
"""

import json

import pytest
import torch
from reference_frames import GOLDEN, real_frame
from safetensors import safe_open

from magicportrait_core.tracking.landmarker import load_landmarker

MEAN_PIXELS, MAX_PIXELS = 0.05, 0.3


@pytest.fixture(scope="module")
def compared() -> dict[str, torch.Tensor]:
    """Differences of every recorded face."""
    with safe_open(GOLDEN / "mediapipe_reference.safetensors", "pt") as file:
        frames = json.loads(file.metadata()["reference"])["frames"]
        points, blendshapes = file.get_tensor("points"), file.get_tensor("blendshapes")
    landmarker = load_landmarker()
    rows, differences = iter(range(len(points))), {"points": [], "depth": [], "blendshapes": []}
    for frame in frames:
        image = real_frame(frame["file"], frame["frame"], frame["repeat"])
        if abs(float((image + 1).mean() * 127.5) - frame["mean"]) > 0.01:
            pytest.skip(f"{frame['file']} decodes to other pixels than when the reference was recorded")
        faces = landmarker.observe(image, max_faces=2, thorough=False)
        assert len(faces) == frame["faces"]
        for row in [next(rows) for _ in range(frame["faces"])]:
            face = min(faces, key=lambda face: float((face.points - points[row]).abs().max()))
            differences["points"].append((face.points - points[row])[:, :2].norm(dim=-1))
            differences["depth"].append((face.points - points[row])[:, 2].abs())
            differences["blendshapes"].append((face.blendshapes - blendshapes[row]).abs())
    return {name: torch.stack(values) for name, values in differences.items()}


def test_points_are_mediapipes(compared):
    assert compared["points"].mean() <= MEAN_PIXELS
    assert compared["points"].max() <= MAX_PIXELS
    assert compared["depth"].max() <= 0.5  # in pixels too, as MediaPipe scales it


def test_blendshapes_are_mediapipes(compared):
    assert compared["blendshapes"].mean() <= 0.001
    assert compared["blendshapes"].max() <= 0.02


if __name__ == "__main__":  # prints the figures
    for name, values in compared.__wrapped__().items():
        print(f"{name}: {len(values)} faces, mean {values.mean():.4f}, max {values.max():.4f}")
