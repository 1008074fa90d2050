"""Draws the pictures of the help page of Align Identity Shape, web/docs/MagicPortraitAlignIdentity/*.jpg.

python scripts/host.py run -m scripts.picture_alignment

turns.jpg: a frontal face (Eileen Collins, NASA, public domain, from scikit-image) whose driver turns by up to
45 degrees; own_expression.jpg: the same smiling face while the driver's is at rest.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage import data
from torch import Tensor

from magicportrait_core.alignment import StructuredFaceAlignment, align, seen_rotation
from magicportrait_core.head.assets import load_head
from magicportrait_core.head.skinning import axis_angle_to_matrix, matrix_to_axis_angle
from magicportrait_core.media.image import to_levels
from magicportrait_core.tracking.landmarker import load_landmarker
from magicportrait_core.tracking.rotations import euler_degrees, rotation_of_euler
from magicportrait_core.tracking.track import FaceTrack
from magicportrait_core.tracking.tracker import track_portrait
from magicportrait_core.warp import prepare_warp, warp_clip

FOLDER = Path("web/docs/MagicPortraitAlignIdentity")
FACE = slice(0, 300), slice(80, 380)  # rows and columns of the photo
TURNS = (-45.0, -20.0, -10.0, 0.0, 10.0, 20.0, 45.0)  # degrees of yaw
OWN = (0.0, 0.25, 0.5, 0.75, 1.0)
TILE, STRIP = 200, 22  # pixels


def main() -> None:
    head, landmarker = load_head(), load_landmarker()
    photo = torch.from_numpy(data.astronaut()).movedim(-1, 0) / 127.5 - 1
    portrait = track_portrait(photo, landmarker, head)
    source = prepare_warp(head, photo, portrait)

    def shown(driving: FaceTrack, **options) -> tuple[FaceTrack, list[Tensor]]:
        track = align(portrait, driving, StructuredFaceAlignment(**options), head).track
        return track, [frame.image for frame in warp_clip(source, track)]

    FOLDER.mkdir(exist_ok=True)
    track, frames = shown(turned(portrait, TURNS))
    yaw = euler_degrees(seen_rotation(track))[:, 0] - euler_degrees(seen_rotation(portrait))[0, 0]
    labels = [f"driver {a:+.0f}°, shown {b:+.0f}°" for a, b in zip(TURNS, yaw.tolist(), strict=True)]
    write("turns.jpg", frames, labels)
    rest = replace(
        portrait, expression=torch.zeros_like(portrait.expression), eyelids=torch.zeros_like(portrait.eyelids)
    )
    frames = [shown(rest, own_expression=own)[1][0] for own in OWN]
    write("own_expression.jpg", [photo, *frames], ["photo", *(f"own_expression {own:g}" for own in OWN)])


def turned(track: FaceTrack, yaws: tuple[float, ...]) -> FaceTrack:
    """The one frame of a track as many times as there are yaws, degrees, by which its head is turned."""
    count = len(yaws)
    rows = track[torch.zeros(count, dtype=torch.long)]
    change = rotation_of_euler(torch.tensor([[yaw, 0.0, 0.0] for yaw in yaws]))
    pose = rows.pose.clone()
    pose[:, 0] = matrix_to_axis_angle(change @ axis_angle_to_matrix(rows.pose[:, 0]))
    return replace(rows, pose=pose, landmarks=None)


def write(name: str, frames: list[Tensor], labels: list[str]) -> None:
    strip = np.concatenate([tile(*pair) for pair in zip(frames, labels, strict=True)], axis=1)
    Image.fromarray(strip).save(FOLDER / name, quality=85, optimize=True)
    print(f"{FOLDER / name}: {(FOLDER / name).stat().st_size:,} bytes")


def tile(frame: Tensor, label: str) -> np.ndarray:
    face = Image.fromarray(to_levels(frame).numpy()[FACE]).resize((TILE, TILE), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (TILE, TILE + STRIP), "white")
    canvas.paste(face, (0, STRIP))
    font = ImageFont.load_default(12)
    ImageDraw.Draw(canvas).text((TILE // 2, STRIP // 2), label, fill="black", font=font, anchor="mm")
    return np.asarray(canvas)


if __name__ == "__main__":
    main()
