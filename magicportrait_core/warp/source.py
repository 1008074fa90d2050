"""Everything about a portrait that all its frames share: surface, masks, light, and the map of what moves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..head.model import HeadModel
from ..head.skinning import vertex_normals
from ..rendering.camera import Camera
from ..rendering.flow import facing
from ..rendering.fragments import Fragments
from ..rendering.rasterizer import rasterize
from ..tracking.track import FaceTrack
from .anatomy import (
    CHIN,
    FACE_OVAL,
    FOREHEAD,
    INNER_LIPS,
    LEFT_EAR,
    LEFT_EYE_OPENING,
    OUTER_EYES,
    RIGHT_EAR,
    RIGHT_EYE_OPENING,
    UPPER_LIDS,
    Anatomy,
    anatomy_of,
)
from .blink import BlinkLimit, blink_limit
from .fill import blur, dilated, pixel_centres, pull_push, resize, smoothstep
from .flat import flattening_offsets
from .options import WarpOptions
from .person import matte_of
from .personal import outline_offsets, personal_offsets
from .polygon import coverage, signed_distance
from .teeth import teeth_offsets
from .two_layers import MatteSource, TwoLayers, split_layers

BARE = 0.1  # of Anatomy.cheek from where the mesh is bare skin
COARSE = 4  # work pixels per cell of the smooth maps
EMPTY_DEPTH = 1e3  # metres, where the portrait has no mesh
SKIN_RIM = 0.008  # face widths inside the person's outline at which the mesh of bare skin ends
FACE_RIM = 0.02  # face widths inside the mesh's outline that may be hair or background in the photo
STRAND = 0.012  # face widths, half the least thickness of hair that stays beside skin that comes into view
FAR_SIDE = 0.02  # face widths beyond the outline of the landmarks where the far side of the face ends
NEAR_EDGE = 0.12  # face widths inside the mesh's outline that may be its far side
OUTLINE = 0.08  # face widths by which the mesh is pulled onto the person's outline, at most
HAT = 0.35  # of the distance to the head above the eyes, of the full distance below the chin


SILHOUETTE_NOTE = (
    "no person was recognised in the portrait (a drawing, a toy, an animal?): the head's outline, grown over "
    "hair, decides what moves before the still background; a person_mask says it better"
)


@dataclass(frozen=True)
class WarpSource:
    """A portrait made ready. "Work pixels" are those of the photo divided by `scale`."""

    head: HeadModel
    anatomy: Anatomy
    options: WarpOptions
    track: FaceTrack  # of the portrait, 1 frame
    image: Tensor  # (3, H, W) in [-1, 1]
    scale: int  # photo pixels per work pixel
    work: Tensor  # (3, h, w) the photo in work pixels
    camera: Camera  # of the portrait, work pixels
    offsets: Tensor  # (V, 3) metres
    blink: BlinkLimit | None
    vertices: Tensor  # (V, 3) camera space
    screen: Tensor  # (V, 3) work pixels and depth
    facing: Tensor  # (V,)
    landmarks: Tensor  # (478, 2) work pixels, of the photo
    mesh_landmarks: Tensor  # (478, 2) work pixels, of the mesh
    face_width: float  # work pixels
    outline: Tensor  # (h, w) signed distance to the photo's face, work pixels
    maps: Tensor  # (4, h, w) depth, signed distance to right eye, left eye, inner lips (work pixels)
    moves: Tensor  # (2, h / COARSE, w / COARSE) how much it follows the skull; distance to the head
    light: Tensor  # (3, h / COARSE, w / COARSE) low-frequency colour of the face, [-1, 1]
    skin: Tensor  # (3,) median skin colour
    lashes: Tensor  # (2, 3) dark colour along the right and the left upper lid
    layers: TwoLayers | None  # None: one sheet

    @property
    def matte_source(self) -> MatteSource | None:
        """Who said what moves: the network, the head's silhouette, or the user's mask; None: one sheet."""
        return None if self.layers is None else self.layers.origin

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that people should read before they wait for the frames."""
        return (SILHOUETTE_NOTE,) if self.matte_source == "silhouette" else ()


@torch.no_grad()
def prepare_warp(
    head: HeadModel,
    image: Tensor,  # (3, H, W) in [-1, 1]
    portrait: FaceTrack,  # 1 frame, of this image
    options: WarpOptions | None = None,
    person_mask: Tensor | None = None,  # (H, W) 0..1, what moves; None: found by the built-in network
) -> WarpSource:
    """Set up the warp of one portrait: a fraction of a second, once per portrait.

    Raises ValueError when the track is not of this picture or of this head, or holds more than one frame,
    or when the mask is of another size or shows nobody.
    """
    options = options or WarpOptions()
    _check(head, image, portrait)
    _check_mask(image, person_mask)
    device = image.device
    head, portrait = head.to(device), portrait.to(device)
    anatomy = anatomy_of(head)
    offsets = personal_offsets(head, portrait, options.personal_offset) + teeth_offsets(head)
    offsets = offsets + flattening_offsets(head, portrait, offsets, anatomy.rigidity)
    posed = head.vertices(portrait.shape, portrait.expression, portrait.pose, offsets)
    full_screen = portrait.camera.project(posed)
    marks = head.landmark_points(full_screen)[0, :, :2]
    seen = marks if portrait.landmarks is None else portrait.landmarks[0, :, :2].to(marks)
    seen = torch.where(seen.isfinite(), seen, marks)
    scale = max(1, math.ceil(_face_width(seen) / options.max_work_width))
    camera = _work_camera(portrait.camera, scale, image.shape[-2:])
    seen, marks = seen / scale, marks / scale
    width = _face_width(seen)

    fragments = _rasterized(head, camera, posed)
    work = F.avg_pool2d(image[None], scale, ceil_mode=True)[0] if scale > 1 else image

    centres = pixel_centres(camera.size, image)
    eyes = [
        signed_distance(seen[list(opening)], centres) for opening in (RIGHT_EYE_OPENING, LEFT_EYE_OPENING)
    ]
    lips = signed_distance(seen[list(INNER_LIPS)], centres)
    outline = signed_distance(seen[list(FACE_OVAL)], centres)
    oval = coverage(outline)
    face = oval * (torch.minimum(torch.minimum(*eyes), lips) > 1.0)
    matte, origin = None, None
    if person_mask is not None:
        matte, origin = person_mask[None].to(image).clamp(0, 1), "mask"
    elif options.layers:
        covered = fragments.covered[0]
        distance = _distance_to(covered, COARSE)
        around = resize(distance[None, None], COARSE, tuple(covered.shape))[0, 0]
        matte, origin = matte_of(image, outline, covered, around, scale, width, options.hair)
    if options.layers:
        person = _eroded(F.avg_pool2d(matte[None], scale, ceil_mode=True)[0], SKIN_RIM * width)[0] > 0.5
        person &= (outline < FAR_SIDE * width) | (
            _eroded(fragments.covered.float(), NEAR_EDGE * width)[0] > 0
        )
        most = OUTLINE * scale * width
        offsets = offsets + outline_offsets(
            head, portrait, offsets, anatomy.cheek > BARE, person, scale, most
        )
        posed = head.vertices(portrait.shape, portrait.expression, portrait.pose, offsets)
        marks = head.landmark_points(portrait.camera.project(posed))[0, :, :2] / scale
        fragments = _rasterized(head, camera, posed)
    vertices = camera.to_camera(posed)
    normals = vertex_normals(vertices, head.faces)
    depth = torch.where(fragments.covered, fragments.depth, torch.full_like(fragments.depth, EMPTY_DEPTH))[0]
    covered = fragments.covered[0]
    bare = fragments.interpolate(anatomy.cheek[None, :, None], head.faces)[0, ..., 0] > BARE
    distance = _distance_to(covered, COARSE)
    rigidity = fragments.interpolate(anatomy.rigidity[None, :, None], head.faces)[0, ..., 0]
    layers, follows = None, distance
    if options.layers:
        skin = bare[None].float()
        thick = _opened(F.avg_pool2d(matte[None], scale, ceil_mode=True)[0] * (1 - skin), STRAND * width)
        parts = torch.cat((_eroded(skin, FACE_RIM * width), thick))
        layers = split_layers(image, matte, parts, scale * width, origin)
        follows = distance * _nearness_above(seen, distance)
    return WarpSource(
        head=head,
        anatomy=anatomy,
        options=options,
        track=portrait,
        image=image,
        scale=scale,
        work=work,
        camera=camera,
        offsets=offsets,
        blink=blink_limit(head, portrait.shape, offsets),
        vertices=vertices[0],
        screen=camera.project_camera(vertices)[0],
        facing=facing(vertices, normals, camera.projection == "perspective")[0],
        landmarks=seen,
        mesh_landmarks=marks,
        face_width=width,
        outline=outline,
        maps=torch.stack((depth, *eyes, lips)),
        moves=torch.stack((_carried(rigidity, covered, distance), follows)),
        light=_low_frequencies(work, face, 0.08 * width),
        skin=_median_colour(work, face),
        lashes=torch.stack([_colour_at(work, seen[list(points)], 0.25) for points in UPPER_LIDS]),
        layers=layers,
    )


def _rasterized(head: HeadModel, camera: Camera, posed: Tensor) -> Fragments:
    screen = camera.project_camera(camera.to_camera(posed))
    return rasterize(screen, head.faces, camera.size, camera.projection == "perspective")


def _check(head: HeadModel, image: Tensor, portrait: FaceTrack) -> None:
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"portrait has shape {tuple(image.shape)}; expected (3, H, W) in [-1, 1]")
    if portrait.num_frames != 1:
        raise ValueError(
            f"the portrait's track has {portrait.num_frames} frames; expected 1, of the portrait itself"
        )
    if tuple(portrait.size) != tuple(image.shape[-2:]):
        raise ValueError(
            f"the portrait is {image.shape[-1]}x{image.shape[-2]} but its track was made from a picture of "
            f"{portrait.size[1]}x{portrait.size[0]}; track this portrait again"
        )
    if portrait.head != head.name:
        raise ValueError(
            f"the track is of head {portrait.head!r}, the head model is {head.name!r}; load that head"
        )
    if not bool(portrait.found.all()):
        raise ValueError(
            "no face was found in the portrait, so it cannot be warped; use a picture with a clear face"
        )


def _check_mask(image: Tensor, mask: Tensor | None) -> None:
    if mask is None:
        return
    if mask.ndim != 2 or tuple(mask.shape) != tuple(image.shape[-2:]):
        height, width = image.shape[-2:]
        raise ValueError(
            f"person_mask has shape {tuple(mask.shape)}; expected ({height}, {width}), the portrait's height "
            "and width: make the mask from the same picture"
        )
    if not bool((mask > 0.5).any()):
        raise ValueError("person_mask is black everywhere; paint the person white, or disconnect the mask")


def _eroded(mask: Tensor, radius: float) -> Tensor:  # (1, h, w)
    return 1 - dilated(1 - mask, max(1, round(radius)))


def _opened(mask: Tensor, radius: float) -> Tensor:  # (1, h, w)
    """Without what is thinner than twice the radius: wisps, glasses."""
    return dilated(_eroded(mask, radius), max(1, round(radius)))


def _nearness_above(marks: Tensor, cells: Tensor) -> Tensor:  # (h / COARSE, 1)
    """Factor of the distance to the head at which things follow it: hats and large hair above the eyes do so
    further out than what hangs below the chin. The matte keeps the background out of it."""
    eyes, chin = float(marks[list(OUTER_EYES), 1].mean()), float(marks[CHIN, 1])
    rows = (torch.arange(cells.shape[0], dtype=torch.float32, device=cells.device)[:, None] + 0.5) * COARSE
    return HAT + (1 - HAT) * smoothstep(eyes, max(chin, eyes + 1), rows)


def _face_width(marks: Tensor) -> float:
    """Ear to ear, but not less than three quarters of forehead to chin (turned faces look narrow); pixels."""
    across = (marks[LEFT_EAR] - marks[RIGHT_EAR]).norm()
    along = (marks[CHIN] - marks[FOREHEAD]).norm()
    return max(float(torch.maximum(across, 0.75 * along)), 4.0)


def _work_camera(camera: Camera, scale: int, size: tuple[int, int]) -> Camera:
    height, width = (-(-side // scale) for side in size)
    return Camera(camera.view, camera.intrinsics / scale, (height, width), camera.projection)


def _distance_to(mask: Tensor, cell: int) -> Tensor:
    """Distance in work pixels to the nearest cell that touches the mask, per cell; 0 inside."""
    cells = F.max_pool2d(mask[None, None].float(), cell, ceil_mode=True)[0, 0] > 0
    inside = cells.nonzero().float()
    border = cells & ~(-F.max_pool2d(-cells[None, None].float(), 3, 1, 1)[0, 0] > 0)
    edge = border.nonzero().float()
    if not len(inside):
        return torch.full(cells.shape, 1e4, device=mask.device)
    everywhere = torch.ones_like(cells).nonzero().float()
    nearest = torch.cat([torch.cdist(part, edge).amin(1) for part in everywhere.split(4096)])
    return torch.where(cells, torch.zeros_like(nearest.view(cells.shape)), nearest.view(cells.shape)) * cell


def _carried(rigidity: Tensor, covered: Tensor, distance: Tensor) -> Tensor:
    """How far each place would follow the skull if it were near: the mesh's own rigidity, carried outwards.

    Below the base of the neck nothing follows: shoulders and clothes are pinned.
    """
    confidence = F.avg_pool2d(covered[None, None].float(), COARSE, ceil_mode=True)
    mean = F.avg_pool2d((rigidity * covered)[None, None], COARSE, ceil_mode=True) / confidence.clamp(min=1e-4)
    spread = pull_push(mean, (2 * confidence).clamp(max=1), smoothing=4)[0, 0]
    rows = covered.any(1).nonzero()
    if len(rows):
        base = float(rows.max()) / COARSE
        y = torch.arange(distance.shape[0], dtype=torch.float32, device=distance.device)[:, None]
        neck = (rigidity > 0.5) & covered
        top = float(neck.any(1).nonzero().max()) / COARSE if bool(neck.any()) else base
        below = smoothstep(top - max(0.25 * (base - top), 1.0), base, y)
        spread = spread * (1 - below)
    return spread.clamp(0, 1)


def _low_frequencies(work: Tensor, face: Tensor, sigma: float) -> Tensor:
    small = F.avg_pool2d(work[None], COARSE, ceil_mode=True)
    known = F.avg_pool2d((face > 0.5)[None, None].float(), COARSE, ceil_mode=True)
    return blur(pull_push(small, (known > 0.99).float()), max(sigma / COARSE, 0.5))[0]


def _median_colour(work: Tensor, mask: Tensor) -> Tensor:
    chosen = work[:, mask > 0.9]
    return chosen.median(1).values if chosen.shape[1] else work.mean((1, 2))


def _colour_at(work: Tensor, points: Tensor, quantile: float) -> Tensor:
    height, width = work.shape[-2:]
    x, y = points[:, 0].long().clamp(0, width - 1), points[:, 1].long().clamp(0, height - 1)
    return work[:, y, x].quantile(quantile, dim=1)
