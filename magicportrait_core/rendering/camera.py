"""Where a head stands and how it is pictured: one rigid view per frame and one projection.

Head space and camera space: metres, x right, y up, z towards the viewer (the camera looks along -z).
Picture space: pixels, x right, y down, pixel centres at +0.5, depth = -z of camera space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Projection = Literal["perspective", "orthographic"]


@dataclass(frozen=True)
class Camera:
    """One projection for a clip and a rigid view for each frame.

    `orthographic` is DECA's weak perspective: its scale, shift and crop transform together are a focal
    length in pixels per metre and a principal point.

    The principal point may differ from frame to frame: the tracker's cameras look at the face wherever it is
    in the picture, so that its place is no turn. `places` tells where the head stands all the same.
    """

    view: Tensor  # (F, 3, 4) head space -> camera space, rotation | translation in metres
    intrinsics: Tensor  # (F, 3) focal length (pixels; pixels per metre if orthographic), cx, cy (pixels)
    size: tuple[int, int]  # height, width of the picture, pixels
    projection: Projection = "perspective"

    def __post_init__(self):
        frames = self.view.shape[0]
        if self.view.shape != (frames, 3, 4) or self.intrinsics.shape != (frames, 3):
            raise ValueError(
                f"camera needs view (F, 3, 4) and intrinsics (F, 3), got {tuple(self.view.shape)} and "
                f"{tuple(self.intrinsics.shape)}"
            )
        if self.projection not in ("perspective", "orthographic"):
            raise ValueError(f"projection={self.projection!r}; expected 'perspective' or 'orthographic'")

    @property
    def num_frames(self) -> int:
        return self.view.shape[0]

    def __getitem__(self, frames: slice | Tensor) -> Camera:
        return replace(self, view=self.view[frames], intrinsics=self.intrinsics[frames])

    def to(self, device: torch.device | str) -> Camera:
        return replace(self, view=self.view.to(device), intrinsics=self.intrinsics.to(device))

    def expand(self, num_frames: int) -> Camera:
        """The same camera for `num_frames` frames; a one-frame camera is repeated."""
        if self.num_frames == num_frames:
            return self
        if self.num_frames != 1:
            raise ValueError(f"a camera of {self.num_frames} frames cannot be expanded to {num_frames}")
        return replace(
            self,
            view=self.view.expand(num_frames, 3, 4),
            intrinsics=self.intrinsics.expand(num_frames, 3),
        )

    def to_camera(
        self,
        points: Tensor,  # (F, V, 3) head space
    ) -> Tensor:  # (F, V, 3) camera space
        return points @ self.view[..., :3].transpose(-1, -2) + self.view[:, None, :, 3]

    def project(
        self,
        points: Tensor,  # (F, V, 3) head space
    ) -> Tensor:  # (F, V, 3) x, y in pixels and depth in metres (positive in front of the camera)
        return self.project_camera(self.to_camera(points))

    def project_camera(
        self,
        points: Tensor,  # (F, V, 3) camera space
    ) -> Tensor:  # (F, V, 3) as `project`
        x, y, z = points.unbind(-1)
        depth = -z
        scale = self.intrinsics[:, None, 0]
        if self.projection == "perspective":
            scale = scale / depth
        return torch.stack(
            (self.intrinsics[:, None, 1] + scale * x, self.intrinsics[:, None, 2] - scale * y, depth), dim=-1
        )

    def unproject(
        self,
        pixels: Tensor,  # (F, N, 3) x, y in pixels and depth in metres
    ) -> Tensor:  # (F, N, 3) camera space
        x, y, depth = pixels.unbind(-1)
        scale = 1 / self.intrinsics[:, None, 0]
        if self.projection == "perspective":
            scale = scale * depth
        return torch.stack(
            ((x - self.intrinsics[:, None, 1]) * scale, (self.intrinsics[:, None, 2] - y) * scale, -depth),
            dim=-1,
        )

    def resized(self, size: tuple[int, int]) -> Camera:
        """The camera of the same picture scaled to `size` (height, width); the aspect must be kept."""
        (old_h, old_w), (new_h, new_w) = self.size, size
        scale = new_h / old_h
        if abs(new_w - old_w * scale) > 1:
            raise ValueError(
                f"picture is {old_w}x{old_h} and cannot be scaled to {new_w}x{new_h} without changing its "
                "aspect; crop first (Camera.cropped) or ask for a size of the same aspect"
            )
        return replace(self, intrinsics=self.intrinsics * scale, size=size)

    def centred(self) -> Camera:
        """The same orthographic projection with its principal point in the picture's middle, and what that
        moves as a translation of the view."""
        if self.projection != "orthographic":
            raise ValueError("only an orthographic camera can be centred; a perspective one would look aside")
        focal, cx, cy = self.intrinsics.unbind(1)
        height, width = self.size
        view = self.view.clone()
        view[:, 0, 3] += (cx - width / 2) / focal
        view[:, 1, 3] += (height / 2 - cy) / focal
        middle = torch.full_like(focal, width / 2), torch.full_like(focal, height / 2)
        return replace(self, view=view, intrinsics=torch.stack((focal, *middle), 1))

    def aims(self) -> Tensor:  # (F, 2) metres, x right, y up
        """How far the principal point lies from the picture's middle, measured at the head's distance."""
        _, cx, cy = self.intrinsics.unbind(1)
        height, width = self.size
        return torch.stack((cx - width / 2, height / 2 - cy), 1) / self._pixels_per_metre()[:, None]

    def places(self) -> Tensor:  # (F, 3) metres
        """The view's translation as if the principal point were in the picture's middle: it moves with the
        head across the picture, whichever way the camera looks."""
        place = self.view[..., 3]
        return torch.cat((place[:, :2] + self.aims(), place[:, 2:]), 1)

    def aimed_aside(
        self,
        move: Tensor,  # (F, 2) metres at the head's distance, x right, y up
    ) -> Camera:
        """The same view with its principal point moved, and the head with it: it is seen from the same side,
        elsewhere in the picture."""
        pixels = move * self._pixels_per_metre()[:, None] * move.new_tensor([1.0, -1.0])
        return replace(
            self, intrinsics=torch.cat((self.intrinsics[:, :1], self.intrinsics[:, 1:] + pixels), 1)
        )

    def _pixels_per_metre(self) -> Tensor:  # (F,) at the head's distance
        focal = self.intrinsics[:, 0]
        return focal / -self.view[:, 2, 3] if self.projection == "perspective" else focal

    def cropped(self, left: float, top: float, size: tuple[int, int]) -> Camera:
        """The camera of the window of `size` (height, width) whose corner is at (left, top) pixels."""
        shift = self.intrinsics.new_tensor([0.0, left, top])
        return replace(self, intrinsics=self.intrinsics - shift, size=size)
