"""Portraits and clips that are hard for a tracker or an aligner, made of one ordinary photo.

The photo's own warp opens its mouth, shuts its eyes and turns its head (`Actor.act`); the rest is drawn.
`tests/core/test_hard_pictures.py` says what the landmarker sees in each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from magicportrait_core.head.assets import load_head
from magicportrait_core.head.model import HeadModel
from magicportrait_core.head.skinning import axis_angle_to_matrix, matrix_to_axis_angle
from magicportrait_core.media.image import from_levels, resize, to_levels
from magicportrait_core.tracking.landmarker import Landmarker
from magicportrait_core.tracking.rotations import rotation_of_euler
from magicportrait_core.tracking.track import FaceTrack
from magicportrait_core.tracking.tracker import track_portrait
from magicportrait_core.warp.source import prepare_warp
from magicportrait_core.warped_portrait import record_warp

EYES = ((33, 133, 159, 145), (263, 362, 386, 374))  # landmarks: corners and lids of the right and left eye
NECK = 1  # row of FaceTrack.pose
FACE = (slice(0, 220), slice(110, 330))  # rows and columns of the astronaut's head
SIDE = 320  # pixels of a portrait


def portrait_of(
    astronaut: Tensor,  # (3, 512, 512) in [-1, 1], scikit-image's
) -> Tensor:  # (3, SIDE, SIDE)
    """Return the head of scikit-image's astronaut: a frontal face with a mouth that smiles a little."""
    return resize(astronaut[:, FACE[0], FACE[1]], (SIDE, SIDE))


@dataclass(frozen=True)
class Actor:
    """A photo that can be made to act."""

    picture: Tensor  # (3, H, W) in [-1, 1]
    track: FaceTrack  # 1 frame
    points: Tensor  # (478, 3) landmarks, pixels
    head: HeadModel

    @classmethod
    def of(cls, picture: Tensor, landmarker: Landmarker) -> Actor:
        """Track a photo."""
        head = load_head()
        track = track_portrait(picture, landmarker, head)
        return cls(picture, track, track.landmarks[0], head)

    def act(
        self,
        yaw: Sequence[float] = (0.0,),  # degrees to the picture's right, added to the photo's own
        **coefficients: Sequence[float],  # ARKit names; a single value holds through the clip
    ) -> Tensor:  # (F, 3, H, W) in [-1, 1]
        """Return the photo with other expressions, frame by frame, by its own warp without smoothing."""
        frames = max(len(yaw), *(len(values) for values in coefficients.values()), 1)
        expression = self.track.expression.repeat(frames, 1)
        for name, values in coefficients.items():
            expression[:, self.head.expression_index(name)] = _held(values, frames)
        pose = self.track.pose.repeat(frames, 1, 1)
        angles = torch.nn.functional.pad(_held(yaw, frames)[:, None], (0, 2))
        turn = rotation_of_euler(angles)
        pose[:, NECK] = matrix_to_axis_angle(turn @ axis_angle_to_matrix(pose[:, NECK]))
        target = replace(
            self.track,
            expression=expression,
            pose=pose,
            eyelids=self.track.eyelids.repeat(frames, 1),
            camera=self.track.camera.expand(frames),
            confidence=self.track.confidence.repeat(frames),
            found=self.track.found.repeat(frames),
            error=self.track.error.repeat(frames),
            landmarks=None,
            covered=None,
            fps=25.0,
        )
        warped = record_warp(prepare_warp(self.head, self.picture, self.track), target)
        return warped.warp_levels / 127.5 - 1

    def plain(self) -> Tensor:  # (3, H, W)
        """Return the photo without any expression: the smile gone, the mouth shut."""
        return self.act(**{name: [0.0] for name in self.head.expression_names})[0]

    def open_mouth(self) -> Tensor:  # (3, H, W)
        """Return the photo with its mouth wide open."""
        return self.act(jawOpen=[1.0])[0]

    def shut_eyes(self) -> Tensor:  # (3, H, W)
        """Return the photo with both eyes shut."""
        return self.act(eyeBlinkLeft=[1.0], eyeBlinkRight=[1.0])[0]

    def large_eyes(self, factor: float = 2.2) -> Tensor:  # (3, H, W)
        """Return the photo with eyes magnified as in a cartoon, the skin around them compressed."""
        height, width = self.picture.shape[-2:]
        rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        place = torch.stack((columns, rows), -1)
        for eye in EYES:
            corners = self.points[list(eye[:2]), :2]
            middle, reach = corners.mean(0), 1.3 * float((corners[0] - corners[1]).norm())
            offset = place - middle
            near = (1 - offset.norm(dim=-1, keepdim=True) / reach).clamp(0, 1)
            place = place - offset * (1 - 1 / factor) * near * near * (3 - 2 * near)
        grid = place / torch.tensor([width, height]) * 2 - 1
        sample = torch.nn.functional.grid_sample
        return sample(self.picture[None], grid[None], padding_mode="border", align_corners=False)[0]

    def glasses(self, frames: Tensor | None = None) -> Tensor:  # (F, 3, H, W)
        """Return the photo, or a clip of it whose head stands, with drawn spectacles."""
        middles, radius = self._eyes()

        rim = {"fill": (25, 20, 20), "width": max(2, round(radius / 9))}

        def draw(canvas: ImageDraw.ImageDraw) -> None:
            for x, y in middles:
                box = (x - radius, y - radius, x + radius, y + radius)
                canvas.ellipse(box, outline=rim["fill"], width=rim["width"])
            (ax, ay), (bx, by) = sorted(middles)
            canvas.line((ax + radius, ay, bx - radius, by), **rim)

        return _drawn(self.picture[None] if frames is None else frames, draw)

    def disc_over_mouth(self, frames: Tensor, covered: Sequence[int]) -> Tensor:  # (F, 3, H, W)
        """Return a clip of which some frames have a flat disc over mouth and chin, as large as a hand."""
        chin, lips = self.points[152, :2], self.points[13, :2]
        middle, radius = (chin + lips) / 2, 0.95 * float((chin - lips).norm())
        x, y = middle.tolist()
        result = frames.clone()

        def draw(canvas: ImageDraw.ImageDraw) -> None:
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(150, 110, 90))

        result[list(covered)] = _drawn(frames[list(covered)], draw)
        return result

    def _eyes(self) -> tuple[list[tuple[float, float]], float]:
        corners = [self.points[list(eye[:2]), :2] for eye in EYES]
        apart = float((corners[0].mean(0) - corners[1].mean(0)).norm())
        return [tuple(eye.mean(0).tolist()) for eye in corners], 0.4 * apart


def off_the_middle(
    picture: Tensor,  # (3, H, W)
    side: float,  # 0: at the left edge ... 1: at the right
    ratio: float = 3.0,  # width over height
) -> Tensor:  # (3, H, ratio * H)
    """Return a wide picture that goes on beside the picture in plain colours."""
    height, width = picture.shape[-2:]
    room = round(ratio * height) - width
    left = round(side * room)
    return torch.nn.functional.pad(picture[None], (left, room - left, 0, 0), mode="replicate")[0]


def sliding(
    picture: Tensor,  # (3, H, W)
    frames: int,
) -> Tensor:  # (F, 3, H, 3 H)
    """Return a still picture that slides from the left edge of a 3:1 picture to the right one."""
    return torch.stack([off_the_middle(picture, i / max(frames - 1, 1)) for i in range(frames)])


def equal_frames(picture: Tensor, frames: int = 8) -> Tensor:  # (F, 3, H, W)
    """Return a clip whose pictures are all the same."""
    return picture.expand(frames, -1, -1, -1)


def _held(values: Sequence[float], frames: int) -> Tensor:  # (F,)
    values = torch.tensor([float(value) for value in values])
    if len(values) not in (1, frames):
        raise ValueError(f"{len(values)} values for {frames} frames; give one for each, or a single one")
    return values.expand(frames)


def _drawn(frames: Tensor, draw) -> Tensor:  # (F, 3, H, W)
    drawn = []
    for levels in to_levels(frames):
        canvas = Image.fromarray(levels.numpy())
        draw(ImageDraw.Draw(canvas))
        drawn.append(from_levels(torch.from_numpy(np.array(canvas))))
    return torch.stack(drawn)
