"""A random person: shape, painted atlas and what is worn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import attire, hair
from .attire import TILE, Solid
from .photo_skins import PhotoSkin
from .photo_textures import random_patch
from .skin import paint_skin, random_tone
from .surface import HeadSurface


@dataclass(frozen=True)
class Person:
    shape: Tensor  # (1, S)
    offsets: Tensor  # (V, 3) metres, hair on the scalp
    atlas: np.ndarray  # (side, side + TILE, 3) linear albedo: the head's texture, then a column of tiles
    hairiness: np.ndarray  # (side, side) 0..1, where the head's texture is hair
    solids: tuple[Solid, ...]
    tone: np.ndarray  # (3,) linear, of the skin
    gloss: float  # of the skin
    shininess: float
    murk: float  # how dark it is deep in the mouth, an exponent


def random_person(
    random: np.random.Generator, surface: HeadSurface, skins: Sequence[PhotoSkin] = ()
) -> Person:
    head = surface.head
    spread = random.uniform(0.5, 1.15)
    shape = torch.from_numpy((random.standard_normal(head.num_shape) * spread).astype(np.float32))[None]
    tone, style = random_tone(random), hair.random_style(random)
    texture = paint_skin(random, surface, tone, style.colour, skins)
    waves = random.standard_normal(32).astype(np.float32)
    patch = random_patch(random) if random.random() < 0.4 else None
    grown = hair.paint_hair(random, style, surface, texture, waves, patch)
    offsets = hair.offsets(random, style, surface, waves)
    solids = _solids(random, surface, shape, tone, style)
    atlas = np.zeros((surface.side, surface.side + TILE, 3), np.float32)
    atlas[:, : surface.side] = texture
    for number, solid in enumerate(solids):
        atlas[number * TILE : (number + 1) * TILE, surface.side :] = solid.texture
    return Person(
        shape=shape,
        offsets=torch.from_numpy(offsets.astype(np.float32)),
        atlas=atlas,
        hairiness=grown.astype(np.float32),
        solids=solids,
        tone=tone,
        gloss=float(random.uniform(0.01, 0.10)),
        shininess=float(random.uniform(8, 30)),
        murk=float(random.uniform(0.3, 1.1)),
    )


def _solids(
    random: np.random.Generator,
    surface: HeadSurface,
    shape: Tensor,
    tone: np.ndarray,
    style: hair.HairStyle,
) -> tuple[Solid, ...]:
    head = surface.head
    rest = head.rest_vertices(shape, head.expressions())[0]
    moved = (rest.mean(0) - head.template.mean(0)).numpy()  # taller or lower people
    patch = random_patch(random) if random.random() < 0.5 else None
    solids = [attire.bust(random, tone, patch, moved)]
    if style.over_ears and not style.cap and style.cover > 0 and random.random() < 0.7:
        solids.append(attire.long_hair(random, style, moved))
    if random.random() < 0.12:
        solids.append(attire.glasses(random, surface, rest.numpy()))
    return tuple(solids)
