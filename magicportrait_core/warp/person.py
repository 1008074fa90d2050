"""Whose pixels move: the matte of the portrait's person."""

from __future__ import annotations

import functools

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from ..matting.people import Box, own_share
from ..matting.person_matte import (
    Crop,
    crop_around,
    load_person_network,
    nearness_to_edges,
    person_probability,
    refined,
)
from ..tracking.detector import detect_faces, whole_picture
from ..tracking.face_region import overlap
from ..tracking.landmarker import ASSET as LANDMARKER
from ..tracking.landmarker_networks import FaceDetector
from .fill import resize, smoothstep
from .two_layers import MatteSource, pixels_per_cell

DECIDED = (0.35, 0.75)  # probability that counts as background, as person
SEEN = 0.5  # probability over the face below which the network does not know this as a person
CORE = 0.05  # face widths inside the face's outline from where nothing of it is background
SOFT = 0.03  # face widths over which that begins
GROWN_SOFTLY = 0.5  # of the reach of hair around a silhouette: where it begins to fade
FACE_SCORE = 0.5  # of other faces
AT_EDGE = (0.6, 1.0)  # face widths from the head up to which hats and hair reach the picture's edge


def matte_of(
    image: Tensor,  # (3, H, W) in [-1, 1]
    oval: Tensor,  # (h, w) work pixels to the face's outline, negative inside
    head: Tensor,  # (h, w) bool, the head model's silhouette
    distance: Tensor,  # (h, w) work pixels to it
    scale: int,  # photo pixels per work pixel
    face_width: float,  # work pixels
    hair: float,  # face widths
) -> tuple[Tensor, MatteSource]:  # (1, H, W) 0..1
    """The matte of the person whose head this is; of the silhouette grown over hair where the network sees
    no person (a toy, an animal, a drawing it does not know)."""
    fold = pixels_per_cell(face_width)
    cell, face_width = scale * fold, face_width / fold
    coarse = functional.avg_pool2d(image[None], cell, ceil_mode=True)[0]
    maps = torch.stack((oval / fold, distance / fold, head.float()))
    maps = functional.avg_pool2d(maps[None], fold, ceil_mode=True)[0]
    on_face = (maps[0] < 0).nonzero()
    middle = on_face.float().mean(0) if len(on_face) else (maps[2] > 0.5).nonzero().float().mean(0)
    crop = crop_around((float(middle[1]), float(middle[0])), face_width, tuple(coarse.shape[-2:]))
    picture, (oval, distance, head) = crop.of(coarse), crop.of(maps)
    edges = nearness_to_edges(crop, tuple(coarse.shape[-2:]), face_width).to(image)
    edges = edges * (1 - smoothstep(AT_EDGE[0] * face_width, AT_EDGE[1] * face_width, distance))
    probability = person_probability(load_person_network(image.device), picture, edges)
    seen = float(probability[0][oval < 0].mean()) if bool((oval < 0).any()) else 0.0
    origin: MatteSource = "network" if seen >= SEEN else "silhouette"
    if origin == "network":
        others = [_shifted(box, crop) for box in other_faces(coarse, maps[0])]
        probability = smoothstep(*DECIDED, probability)
        probability = probability * own_share(picture, probability, head > 0.5, others)
    else:
        reach = hair * face_width
        probability = 1 - smoothstep(GROWN_SOFTLY * reach, reach, distance)[None]
    large = _photo_part(crop, cell, tuple(image.shape[-2:]))
    matte = refined(picture, probability, face_width, large.of(image))
    core = 1 - smoothstep(-SOFT * face_width, 0, oval + CORE * face_width)
    core = resize(core[None, None], cell, tuple(matte.shape[-2:]))[0]
    whole = image.new_zeros(1, *image.shape[-2:])
    large.of(whole).copy_(torch.maximum(matte, core))
    return whole, origin


@functools.cache
def _detector(device: torch.device) -> FaceDetector:
    detector, prefix = FaceDetector(), "detector."
    with safe_open(LANDMARKER, "pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a dictionary)
        detector.load_state_dict({name[len(prefix) :]: file.get_tensor(name) for name in names})
    return detector.to(device).eval().requires_grad_(False)


def other_faces(
    picture: Tensor,  # (3, h, w) in [-1, 1]
    oval: Tensor,  # (h, w) pixels to the outline of this person's face, negative inside
) -> list[Box]:
    """Faces of other people, as the built-in detector finds them in the whole picture."""
    rows, columns = (oval < 0).any(1).nonzero(), (oval < 0).any(0).nonzero()
    if not len(rows):
        return []
    own = (float(columns[0]), float(rows[0]), float(columns[-1]) + 1, float(rows[-1]) + 1)
    found = detect_faces(
        _detector(picture.device), picture.float(), [whole_picture(picture.shape[-2:])], FACE_SCORE
    )
    middles = [((face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2) for face in found]
    return [
        face.box
        for face, (x, y) in zip(found, middles, strict=True)
        if overlap(face.box, own) < 0.2 and not (own[0] < x < own[2] and own[1] < y < own[3])
    ]


def _photo_part(crop: Crop, scale: int, size: tuple[int, int]) -> Crop:
    bottom, right = min(crop.bottom * scale, size[0]), min(crop.right * scale, size[1])
    return Crop(crop.top * scale, crop.left * scale, bottom, right)


def _shifted(box: Box, crop: Crop) -> Box:
    left, top, right, bottom = box
    return (left - crop.left, top - crop.top, right - crop.left, bottom - crop.top)
