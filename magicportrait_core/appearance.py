"""A person's appearance from one portrait: the photo on the head's texture, without the light it stood in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from .head.colours import PART_COLOURS, part_colours
from .head.model import IRIS_PARTS, REGIONS, HeadModel
from .head.skinning import vertex_normals
from .head_appearance import HeadAppearance, outer_skin, plain_appearance
from .rendering.background import background_colours, background_within, unlike
from .rendering.lighting import fit_light
from .rendering.mesh_fill import fill_vertices
from .rendering.photo import Photo, head_in_photo, look_up, without
from .rendering.shading import sample_texture, spherical_harmonics
from .rendering.texture import mirrored_corners, spread, texel_fragments
from .tracking.track import FaceTrack

__all__ = ["HeadAppearance", "appearance_from_portrait", "plain_appearance"]

MEAN_SHADING = 1.1  # on the visible skin; leaves room for highlights below an albedo of 1
SURELY_HEAD = 0.75  # cosine to the viewer above which the picture shows the head even if the fit is inexact
WHITES = 0.35  # of the colour seen between the lids that the whites of the eyes take on
MIRRORED = 0.5  # how much a vertex seen only on the other side counts against smoothness
FEWEST = 6  # faces that have to be seen to take a colour from them
LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class _Posed:
    """The head as it stands in the photo."""

    head: HeadModel
    vertices: Tensor  # (V, 3) head space
    normals: Tensor  # (V, 3) camera axes
    photo: Photo


@torch.no_grad()
def appearance_from_portrait(
    head: HeadModel,
    portrait: FaceTrack,  # one frame
    image: Tensor,  # (3, H, W) in [-1, 1], the picture of the track
    size: int = 1024,
) -> HeadAppearance:
    """Albedo and light of a person from one photo.

    The photo is laid onto the visible skin and divided by the light fitted to the face. Unseen skin takes the
    mirror image's colours where those are seen, else a smooth continuation; eyes, teeth and mouth get plain
    colours adapted to the photo, irises the person's. In the photo's own pose the render repeats the photo.
    `size` is the side of the texture. Raises ValueError when track, head and image do not belong together.
    """
    _check(head, portrait, image)
    image = (image.to(head.device, torch.float32).clamp(-1, 1) + 1) / 2
    camera = portrait.camera.to(head.device)
    shape, expression, pose = (
        value.to(head.device) for value in (portrait.shape, portrait.expression, portrait.pose)
    )
    vertices = head.vertices(shape, expression, pose)
    normals = vertex_normals(vertices, head.faces) @ camera.view[..., :3].transpose(1, 2)
    photo = head_in_photo(image, camera, vertices, head.faces, size)
    posed = _without_background(_Posed(head, vertices[0], normals[0], photo), image)
    colours, seen = _at_vertices(posed)
    light = fit_light(posed.normals, colours, seen * _face_vertices(head)) * MEAN_SHADING
    base = _vertex_albedo(posed, colours, seen, light)
    return HeadAppearance(_texture(posed, base, light, size), light)


def _check(head: HeadModel, portrait: FaceTrack, image: Tensor) -> None:
    if portrait.head != head.name:
        raise ValueError(
            f"the portrait was tracked with head {portrait.head!r}, but the head given is {head.name!r}; "
            "load the head the track was made with, or track again"
        )
    if portrait.num_frames != 1:
        raise ValueError(
            f"the portrait's track has {portrait.num_frames} frames; expected one, track[i : i + 1]"
        )
    if image.ndim != 3 or image.shape[0] != 3 or tuple(image.shape[-2:]) != tuple(portrait.size):
        raise ValueError(
            f"the image has shape {tuple(image.shape)}, but the portrait's track was made from a picture of "
            f"{portrait.size[1]}x{portrait.size[0]} pixels; connect the same picture"
        )


def _without_background(posed: _Posed, image: Tensor) -> _Posed:
    colours, seen = _at_vertices(posed)
    middle = (seen > 0.9) & (posed.normals[:, 2] > SURELY_HEAD)
    face = middle & (_face_vertices(posed.head) > 0)
    if not face.any():
        return posed
    photo = posed.photo
    background = unlike(background_colours(image), colours[middle])
    skin = colours[face].median(0).values
    shown = background_within(photo.picture, photo.triangle < 0, background, skin)
    # Above the face hair and hats stand out further than the fitted skull: what is seen there is theirs.
    shown &= ~_skull(posed.head)[posed.head.faces].all(1)[photo.triangle.clamp(min=0)]
    return replace(posed, photo=without(photo, shown))


def _shading(normals: Tensor, light: Tensor) -> Tensor:  # (N, 3)
    return (spherical_harmonics(normals) @ light).clamp(min=0.2)


def _face_vertices(head: HeadModel) -> Tensor:  # (V,) 0 or 1
    """Outer skin of the face, as far as the landmarks reach; all outer skin on a head without landmarks."""
    skin = torch.zeros(head.num_vertices, device=head.device)
    skin[head.faces[outer_skin(head)].reshape(-1)] = 1
    if head.landmarks is None:
        return skin
    points = head.landmark_points(head.template[None])[0]
    points = points[torch.isfinite(points).all(-1)]
    low, high = points.amin(0), points.amax(0)
    inside = (head.template[:, :2] > low[:2]) & (head.template[:, :2] < high[:2])
    return skin * inside.all(-1) * (head.template[:, 2] > (low[2] + high[2]) / 2)


def _skull(head: HeadModel) -> Tensor:  # (V,) bool, above the face
    return head.template[:, 1] > head.template[_face_vertices(head) > 0, 1].amax()


def _at_vertices(posed: _Posed) -> tuple[Tensor, Tensor]:
    """(V, 3) colours of the photo around every vertex and (V,) how well it is seen; outer skin only."""
    photo = posed.photo
    blur = max(1, round(max(photo.depth.shape) / 120))
    padded = torch.nn.functional.pad(photo.picture[None], (blur,) * 4, mode="replicate")
    soft = replace(photo, picture=avg_pool2d(padded, 2 * blur + 1, stride=1)[0])
    colours, seen = look_up(soft, posed.vertices, posed.normals, _skull(posed.head))
    skin = torch.zeros_like(seen)
    skin[posed.head.faces[outer_skin(posed.head)].reshape(-1)] = 1
    return colours, seen * skin


def _vertex_albedo(posed: _Posed, colours: Tensor, seen: Tensor, light: Tensor) -> Tensor:  # (V, 3)
    """Smooth colours without light for every skin vertex: seen, else mirrored, else continued."""
    head = posed.head
    albedo = colours / _shading(posed.normals, light)
    other = seen[head.mirror] * (1 - seen)
    weight = seen + other
    values = (albedo * seen[:, None] + albedo[head.mirror] * other[:, None]) / weight.clamp(min=1e-6)[:, None]
    face = seen * _face_vertices(head)
    typical = albedo[face > 0.5].median(0).values if (face > 0.5).any() else albedo.mean(0)
    weight = seen + MIRRORED * other
    return fill_vertices(values, weight, head.faces[outer_skin(head)], typical).clamp(0, 1)


def _texture(posed: _Posed, base: Tensor, light: Tensor, size: int) -> Tensor:  # (3, size, size)
    head = posed.head
    texels = texel_fragments(head.uvs, head.faces_uv, size)
    flat, weights = texels.triangle.reshape(-1), texels.barycentric.reshape(-1, 3)
    texture = torch.zeros(size * size, 3, device=head.device)
    covered = flat >= 0
    plain = _adapted(part_colours(head), posed, base, light)
    texture[covered] = plain[flat[covered]]
    skin = covered & outer_skin(head)[flat.clamp(min=0)]
    place = skin.nonzero().squeeze(1)
    texture[place] = _skin_texels(posed, base, light, flat[place], weights[place], place, size)
    known = covered.view(size, size)
    return spread(texture.T.reshape(3, size, size), known)


def _skin_texels(
    posed: _Posed,
    base: Tensor,  # (V, 3)
    light: Tensor,  # (9, 3)
    face: Tensor,  # (P,) triangle of every skin texel
    weights: Tensor,  # (P, 3)
    place: Tensor,  # (P,) index of the texel
    size: int,
) -> Tensor:  # (P, 3)
    head = posed.head

    def at_texel(values: Tensor, corners: Tensor) -> Tensor:
        return (values[corners] * weights[..., None]).sum(1)

    corners = head.faces[face]
    normals = torch.nn.functional.normalize(at_texel(posed.normals, corners), dim=-1)
    colours, seen = look_up(
        posed.photo, at_texel(posed.vertices, corners), normals, _skull(head)[corners].all(1)
    )
    albedo = (colours / _shading(normals, light)).clamp(0, 1)
    # Detail of the mirror image: its difference from the smooth colours there, on the smooth colours here.
    layer = torch.zeros(4, size * size, device=albedo.device)
    layer[:, place] = torch.cat((albedo * seen[:, None], seen[:, None]), dim=1).T
    uv, valid = mirrored_corners(head.uvs, head.faces, head.faces_uv, head.mirror)
    sampled = sample_texture(layer.view(4, size, size), (uv[face] * weights[..., None]).sum(1))
    other = sampled[:, 3:] * valid[face][:, None]
    mirrored = sampled[:, :3] / sampled[:, 3:].clamp(min=1e-3) - at_texel(base, head.mirror[corners])
    unseen = at_texel(base, corners) + other * mirrored
    return (unseen + seen[:, None] * (albedo - unseen)).clamp(0, 1)


def _adapted(colours: Tensor, posed: _Posed, base: Tensor, light: Tensor) -> Tensor:  # (T, 3)
    """Plain colours of teeth and mouth, as bright and as colourful as the photo; the photo's eyes."""
    head = posed.head
    luminance = colours.new_tensor(LUMINANCE)
    face = _face_vertices(head) > 0
    skin = (base[face] if face.any() else base).median(0).values
    plain = colours.new_tensor(PART_COLOURS["skin"])  # what the other plain colours go with
    exposure = ((skin @ luminance) / (plain @ luminance)).clamp(0.35, 1.1).sqrt()
    chroma = ((skin.max() - skin.min()) / (plain.max() - plain.min())).clamp(0, 1)
    grey = (colours @ luminance)[:, None]
    adapted = (grey + (colours - grey) * chroma) * exposure
    iris = head.iris == IRIS_PARTS.index("iris")
    colour = _seen_colour(posed, head.faces[iris], light)
    if colour is not None:
        adapted[iris] = colour
    eyes = [head.regions == REGIONS.index(name) for name in ("left_eye", "right_eye")]
    whites = (eyes[0] | eyes[1]) & (head.iris == 0)
    colour = _seen_colour(posed, head.faces[whites], light)
    if (
        colour is not None
    ):  # mostly lids where the fit is inexact, so only the brightness is taken over in full
        bright = (colour @ luminance).clamp(0.5, 0.8)
        adapted[whites] = bright + (colour - colour @ luminance) * WHITES
    return adapted


def _seen_colour(posed: _Posed, corners: Tensor, light: Tensor) -> Tensor | None:  # (3,)
    """The median colour, without light, of those of the faces `corners` (N, 3) that the photo shows."""
    normals = torch.nn.functional.normalize(posed.normals[corners].mean(1), dim=-1)
    colours, seen = look_up(posed.photo, posed.vertices[corners].mean(1), normals)
    if (seen > 0.3).sum() < FEWEST:
        return None
    return (colours / _shading(normals, light))[seen > 0.3].median(0).values.clamp(0, 1)
