"""Points and coefficients against MediaPipe 1.2 in image mode on real frames.

The numbers were made by scripts/record_mediapipe_reference.py. `pytest -s` prints the figures.
"""

import json

import pytest
import torch
from safetensors import safe_open

MEAN_PIXELS, MAX_PIXELS = 0.05, 0.3


@pytest.fixture(scope="module")
def differences(golden, landmarker, real_frame) -> dict[str, torch.Tensor]:
    """Of every recorded face."""
    with safe_open(golden / "mediapipe_reference.safetensors", "pt") as file:
        frames = json.loads(file.metadata()["reference"])["frames"]
        points, blendshapes = file.get_tensor("points"), file.get_tensor("blendshapes")
    rows, found = iter(range(len(points))), {"points": [], "depth": [], "blendshapes": []}
    for frame in frames:
        image = real_frame(frame["file"], frame["frame"], frame["repeat"])
        if abs(float((image + 1).mean() * 127.5) - frame["mean"]) > 0.01:
            pytest.skip(f"{frame['file']} decodes to other pixels than when the reference was recorded")
        faces = landmarker.observe(image, max_faces=2, thorough=False)
        assert len(faces) == frame["faces"]
        for row in [next(rows) for _ in range(frame["faces"])]:
            face = min(faces, key=lambda face: float((face.points - points[row]).abs().max()))
            found["points"].append((face.points - points[row])[:, :2].norm(dim=-1))
            found["depth"].append((face.points - points[row])[:, 2].abs())
            found["blendshapes"].append((face.blendshapes - blendshapes[row]).abs())
    found = {name: torch.stack(values) for name, values in found.items()}
    for name, values in found.items():
        print(f"{name}: {len(values)} faces, mean {values.mean():.4f}, max {values.max():.4f}")
    return found


def test_points_are_mediapipes(differences):
    assert differences["points"].mean() <= MEAN_PIXELS
    assert differences["points"].max() <= MAX_PIXELS
    assert differences["depth"].max() <= 0.5  # in pixels too, as MediaPipe scales it


def test_blendshapes_are_mediapipes(differences):
    assert differences["blendshapes"].mean() <= 0.001
    assert differences["blendshapes"].max() <= 0.02
