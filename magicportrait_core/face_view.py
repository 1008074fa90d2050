"""The part of a picture that a small model looks at: the square around the face, as in its training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .guidance import GuidanceMaps
from .reference import check_same_aspect
from .tracking.landmark_error import expected_landmarks
from .warped_portrait import WarpedPortrait, WarpedSource

if TYPE_CHECKING:
    from .head.model import HeadModel
    from .motion_features import MapSource
    from .tracking.track import FaceTrack

FACE_WIDTHS = 2.18  # side of the square, the released crop (facts d.2)
ROOM = 1.25  # side of the square in extents of all places where the face goes
FEATHER = 1 / 16  # of the square's side over which a pasted frame fades into the picture
FRAMES_AT_ONCE = 64  # whose meshes are in memory


@dataclass(frozen=True)
class FaceView:
    """A rectangle inside a picture, in whole pixels."""

    top: int
    left: int
    size: tuple[int, int]  # height, width
    picture: tuple[int, int]  # height, width of the whole picture

    def cut(
        self,
        pictures: Tensor,  # (..., H, W) of the picture's size
    ) -> Tensor:  # (..., height, width), a view
        rows, columns = self._slices
        return pictures[..., rows, columns]

    def of(self, picture: tuple[int, int]) -> FaceView:
        """The same part of the picture in another size (height, width); ValueError for another aspect."""
        check_same_aspect(self.picture, picture, slack=1 + max(self.picture) / min(self.picture))
        begin, length = (self.top, self.left), self.size
        scales = [new / old for new, old in zip(picture, self.picture, strict=True)]
        first = [round(at * scale) for at, scale in zip(begin, scales, strict=True)]
        last = [round((at + n) * scale) for at, n, scale in zip(begin, length, scales, strict=True)]
        return FaceView(*first, (last[0] - first[0], last[1] - first[1]), tuple(picture))

    def cut_track(self, track: FaceTrack) -> FaceTrack:
        """The same head in pixels of the view."""
        landmarks = track.landmarks
        if landmarks is not None:
            landmarks = landmarks - landmarks.new_tensor([self.left, self.top, 0])
        return replace(
            track, camera=track.camera.cropped(self.left, self.top, self.size), landmarks=landmarks
        )

    def paste(
        self,
        frame: Tensor,  # (3, height, width) in [-1, 1]
        picture: Tensor,  # (3, H, W) in [-1, 1]
    ) -> Tensor:  # (3, H, W), a copy of the picture
        """The frame in its place, fading out where the view ends inside of the picture; where both are equal
        the picture stays as it is, bit for bit."""
        rows, columns = self._slices
        pasted = picture.clone()
        weight = self._weight().to(picture).expand_as(frame)
        pasted[:, rows, columns] = torch.lerp(picture[:, rows, columns], frame, weight)
        return pasted

    @property
    def _slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.size[0]), slice(self.left, self.left + self.size[1])

    def _weight(self) -> Tensor:  # (height, width) 0..1
        ends = [
            _fade(length, start > 0, start + length < whole)
            for length, start, whole in zip(self.size, (self.top, self.left), self.picture, strict=True)
        ]
        return ends[0][:, None] * ends[1]


@dataclass(frozen=True)
class ViewedWarp:
    """The part of a warped portrait that is in a view."""

    warped: WarpedSource
    view: FaceView

    @property
    def num_frames(self) -> int:
        return self.warped.num_frames

    @property
    def size(self) -> tuple[int, int]:
        return self.view.size

    def __getitem__(self, frames: slice) -> WarpedPortrait:
        part, cut = self.warped[frames], self.view.cut
        return WarpedPortrait(cut(part.portrait), cut(part.warp_levels), cut(part.labels), part.turn)

    def paste(
        self,
        frames: Iterable[Tensor],  # (3, height, width) in [-1, 1] each, of the view
    ) -> Iterator[Tensor]:  # (3, H, W) in [-1, 1] each
        """Frames of the view on the warped pictures that they belong to."""
        for i, frame in enumerate(frames):
            yield self.view.paste(frame, self.warped[i : i + 1].warp_levels[0] / 127.5 - 1)


@dataclass(frozen=True)
class ViewedMaps:
    """The part of guidance maps that is in a view; the maps may have another size than the picture."""

    maps: MapSource
    view: FaceView

    @property
    def num_frames(self) -> int:
        return self.maps.num_frames

    @property
    def size(self) -> tuple[int, int]:
        return self.view.of(self.maps.size).size

    def __getitem__(self, frames: slice) -> GuidanceMaps:
        part, cut = self.maps[frames], self.view.of(self.maps.size).cut
        return GuidanceMaps(*(cut(getattr(part, f.name)) for f in fields(part)))


@torch.no_grad()
def face_view(
    head: HeadModel,
    track: FaceTrack,  # aligned to the picture
) -> FaceView:
    """The square around a face for a whole clip: 2.18 times as wide as the face, wider where the face goes
    far, moved and cut to stay inside of the picture."""
    height, width = track.size
    parts = [track[i : i + FRAMES_AT_ONCE] for i in range(0, track.num_frames, FRAMES_AT_ONCE)]
    points = torch.cat([expected_landmarks(head, part).cpu() for part in parts])  # (F, 478, 2)
    points = points[:, points.isfinite().all(-1).all(0)]
    low, high = points.amin((0, 1)), points.amax((0, 1))
    across = float((points.amax(1) - points.amin(1))[:, 0].median())
    side = round(max(FACE_WIDTHS * across, ROOM * float((high - low).max())))
    sides = min(max(side, 2), height), min(max(side, 2), width)
    x, y = ((low + high) / 2).tolist()
    top, left = (
        round(min(max(middle - length / 2, 0), whole - length))
        for middle, length, whole in zip((y, x), sides, (height, width), strict=True)
    )
    return FaceView(top, left, sides, (height, width))


def _fade(length: int, at_start: bool, at_end: bool) -> Tensor:  # (length,)
    """1, falling to 0 over FEATHER of the length at the ends that are asked for."""
    ramp = (torch.arange(length) + 0.5) / max(1.0, FEATHER * length)
    weight = torch.ones(length)
    if at_start:
        weight = torch.minimum(weight, ramp)
    if at_end:
        weight = torch.minimum(weight, ramp.flip(0))
    return weight
