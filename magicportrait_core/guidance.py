"""FaceTrack -> GuidanceMaps: depth, normals and the lit head, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .head.model import HeadModel
from .head.skinning import vertex_normals
from .head_appearance import HeadAppearance, plain_appearance
from .rendering import shading_numba
from .rendering.camera import Camera
from .rendering.rasterizer import FRAMES_AT_ONCE, Backend, rasterize
from .rendering.shading import Levels, Surface, nearness, shade_levels
from .tracking.track import FaceTrack

OnFrame = Callable[[int, int, Callable[[], Tensor]], None]


@dataclass(frozen=True)
class GuidanceMaps:
    """The guidance of a clip in 8 bits, as the networks were trained on it; 8 bytes a pixel and frame.

    `depth`, `normal`, `render` and `mask` give floats; for long clips take a part first: maps[10:20].depth.
    Pictures for people are in guidance_pictures.
    """

    depth_levels: Tensor  # (F, 1, H, W) uint8
    normal_levels: Tensor  # (F, 3, H, W) uint8, of the absolute values; signs are in `flags`
    render_levels: Tensor  # (F, 3, H, W) uint8
    flags: Tensor  # (F, 1, H, W) uint8: bit 0 the head is here, bits 1, 2, 3 normal x, y, z is negative

    @property
    def num_frames(self) -> int:
        return self.flags.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """height, width in pixels."""
        return self.flags.shape[-2], self.flags.shape[-1]

    def __getitem__(self, frames: slice | Tensor) -> GuidanceMaps:
        return GuidanceMaps(*(getattr(self, f.name)[frames] for f in fields(self)))

    def to(self, device: torch.device | str) -> GuidanceMaps:
        return GuidanceMaps(*(getattr(self, f.name).to(device) for f in fields(self)))

    @property
    def depth(self) -> Tensor:  # (F, 1, H, W) 0..1
        """1 at the head's nearest vertex of the frame, 0 at its farthest and outside."""
        return self.depth_levels.float() / 255

    @property
    def normal(self) -> Tensor:  # (F, 3, H, W) 0..1
        """Camera axes; negative components are 0, as in the released pictures."""
        return self.normal_levels.float().masked_fill_(self._negative, 0) / 255

    @property
    def signed_normal(self) -> Tensor:  # (F, 3, H, W) -1..1
        """Camera axes, nothing clipped; 0 outside the head."""
        return torch.where(self._negative, -1.0, 1.0) * self.normal_levels / 255

    @property
    def render(self) -> Tensor:  # (F, 3, H, W) 0..1
        """The lit head, black outside."""
        return self.render_levels.float() / 255

    @property
    def mask(self) -> Tensor:  # (F, 1, H, W) 0 or 1
        """1 where the head is."""
        return (self.flags & 1).float()

    @property
    def _negative(self) -> Tensor:  # (F, 3, H, W) bool
        bits = torch.tensor([2, 4, 8], dtype=torch.uint8, device=self.flags.device)
        return (self.flags & bits[:, None, None]) > 0


def render_guidance(
    head: HeadModel,
    track: FaceTrack,
    appearance: HeadAppearance | None = None,
    size: tuple[int, int] | None = None,
    on_frame: OnFrame | None = None,
    backend: Backend = "auto",
) -> GuidanceMaps:
    """Depth, normal and render maps of every frame of a track.

    `appearance` None: a grey head in soft light. `size` (height, width) None: the track's own; another size
    must have its aspect. `on_frame(done, total, picture)` after every step; picture() makes the newest render
    (3, H, W) in [-1, 1]. Works on the head's device; the maps are on the CPU.

    Raises ValueError for a track of another head or a size of another aspect.
    """
    if track.head != head.name:
        raise ValueError(
            f"the track was made with head {track.head!r}, but the head given is {head.name!r}; "
            "load the head the track was made with, or track again"
        )
    camera = track.camera.to(head.device)
    if size is not None:
        camera = camera.resized(size)
    appearance = (appearance or plain_appearance(head)).to(head.device)
    texels = appearance.albedo.movedim(0, -1).contiguous()  # colours side by side: no copy for every frame
    appearance = replace(appearance, albedo=texels.movedim(-1, 0))
    total, (height, width) = track.num_frames, camera.size
    maps = Levels(*(torch.empty(total, c, height, width, dtype=torch.uint8) for c in (1, 3, 3, 1)))
    step = FRAMES_AT_ONCE.get(head.device.type, 1)
    for first in range(0, total, step):
        frames = slice(first, min(first + step, total))
        drawn = _draw(head, track, camera, appearance, frames, backend)
        for whole, part in zip(maps, drawn, strict=True):
            whole[frames] = part.cpu()
        if on_frame:
            newest = maps.render[frames.stop - 1]
            on_frame(frames.stop, total, lambda newest=newest: newest.float() / 127.5 - 1)
    return GuidanceMaps(*maps)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread: its waiting threads spin, and would take the cores from numba's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _draw(
    head: HeadModel,
    track: FaceTrack,
    camera: Camera,
    appearance: HeadAppearance,
    frames: slice,
    backend: Backend,
) -> Levels:
    camera = camera[frames]
    per_frame = (track.expression[frames], track.pose[frames], track.eyelids[frames])
    shape, expression, pose, eyelids = (value.to(head.device) for value in (track.shape, *per_frame))
    compiled = backend in ("auto", "numba") and head.device.type == "cpu" and shading_numba.works()
    with one_thread() if compiled else nullcontext():
        vertices = head.vertices(shape, expression, pose, eyelids=eyelids)
        screen = camera.project(vertices)
        surface = Surface(
            faces=head.faces,
            normals=vertex_normals(vertices, head.faces) @ camera.view[..., :3].transpose(1, 2),
            nearness=nearness(screen[..., 2]),
            uv_corners=head.uvs[head.faces_uv],
            albedo=appearance.albedo,
            light=appearance.light,
        )
    fragments = rasterize(
        screen, head.faces, camera.size, camera.projection == "perspective", backend=backend
    )
    return (shading_numba.shade_levels_numba if compiled else shade_levels)(fragments, surface)
