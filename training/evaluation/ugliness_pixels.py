"""What happens to pixels: beside people, and to the face's contrast."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from magicportrait_core.tracking.topology import CHAINS
from training.evaluation.pictures import LUMA

CHANGED = 24  # levels; what changed by more is seen
PERSON = 0.5  # of a matte from which a pixel is a person's
RIM = 0.06  # face widths around a matte that are not judged: soft outlines and fine hair
OVAL = tuple(dict.fromkeys(CHAINS["face_oval"][0]))  # landmarks along the outline of the face


def changed_outside(
    photo: Tensor,  # (3, H, W) uint8
    result: Tensor,  # (3, H, W) uint8
    people: Tensor,  # (H, W) bool, people in either
) -> float:
    """Return the share of pixels outside of all people that changed by more than CHANGED levels (mean of the
    channels); 0 where there is nothing but people."""
    change = (photo.float() - result.float()).abs().mean(0)
    outside = ~people
    return float((change[outside] > CHANGED).float().mean()) if bool(outside.any()) else 0.0


def people_in(
    picture: Tensor,  # (3, H, W) uint8
    points: Tensor,  # (K, >= 2) pixels, landmarks of the face
) -> Tensor:  # (H, W) bool
    """Return where the person matte sees the person of this face, with a rim around it."""
    from magicportrait_core.matting.person_matte import (
        crop_around,
        load_person_network,
        nearness_to_edges,
        person_probability,
    )

    size = tuple(picture.shape[-2:])
    width = float(points[:, 0].amax() - points[:, 0].amin())
    low, high = points[:, :2].amin(0), points[:, :2].amax(0)
    crop = crop_around(tuple(((low + high) / 2).tolist()), width, size)
    part = crop.of(picture.float() / 127.5 - 1)
    matte = person_probability(load_person_network(), part, nearness_to_edges(crop, size, width))
    person = torch.zeros(size, dtype=torch.bool)
    crop.of(person)[:] = matte[0] > PERSON
    return grown(person | face_oval(points, size), round(RIM * width))


def grown(
    mask: Tensor,  # (H, W) bool
    radius: int,  # pixels
) -> Tensor:  # (H, W) bool
    """Return the mask with a square rim around it."""
    side = 2 * radius + 1
    return torch.nn.functional.max_pool2d(mask[None, None].float(), side, 1, radius)[0, 0] > 0


def face_oval(
    points: Tensor,  # (478, >= 2) pixels
    size: tuple[int, int],  # height, width
) -> Tensor:  # (H, W) bool
    """Return the inside of the face's outline."""
    canvas = Image.new("L", (size[1], size[0]))
    ImageDraw.Draw(canvas).polygon([tuple(points[i, :2].tolist()) for i in OVAL], fill=255)
    return torch.frombuffer(bytearray(canvas.tobytes()), dtype=torch.uint8).view(size) > 0


def contrast_ratio(
    result: Tensor,  # (3, H, W) uint8
    warp: Tensor,  # (3, H, W) uint8, of the same frame
    where: Tensor,  # (H, W) bool
) -> float:
    """Return the standard deviation of luma in the result over that in the warp; NaN where either cannot be
    had."""
    if int(where.sum()) < 2:
        return float("nan")
    weights = torch.tensor(LUMA)[:, None]
    own, before = ((weights * picture[:, where].float()).sum(0).std() for picture in (result, warp))
    return float(own / before) if before > 0 else float("nan")
