"""Background of a portrait that shows through where the fitted head is larger than the person's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, max_pool2d

STRIP = 0.04  # of the picture's longer side: what lies along the top and the upper sides is background
SAMPLES = 24  # colours taken along each of the three strips
ALIKE = 0.08  # distance (0..1 colours) within which a pixel has the background's colour
COMMON = 0.01  # share of the person's colours that makes one the person's
DEEPEST = 0.25  # of the head's box: how far from its outline background is looked for


def background_colours(
    picture: Tensor,  # (3, H, W) 0..1
) -> Tensor:  # (N, 3)
    """Colours along the top border and the upper half of the side borders."""
    height, width = picture.shape[-2:]
    strip = max(1, round(STRIP * max(height, width)))
    top, left, right = (
        picture[:, :strip],
        picture[:, : height // 2, :strip],
        picture[:, : height // 2, -strip:],
    )
    colours = [adaptive_avg_pool2d(top, (1, SAMPLES))]
    colours += [adaptive_avg_pool2d(side, (SAMPLES, 1)) for side in (left, right)]
    return torch.cat([c.reshape(3, -1) for c in colours], dim=1).T


def unlike(
    background: Tensor,  # (N, 3)
    person: Tensor,  # (M, 3) colours that are surely the person's: skin, hair, hat
) -> Tensor:  # (<= N, 3)
    """The background colours that the person does not have: hair and hats may reach the border as well."""
    if not len(background) or not len(person):
        return background
    close = (torch.cdist(background[None], person[None])[0] < 1.5 * ALIKE).sum(1)
    return background[close < max(2, COMMON * len(person))]


def background_within(
    picture: Tensor,  # (3, h, w) 0..1, the part with the head
    outside: Tensor,  # (h, w) bool, beyond the fitted head
    colours: Tensor,  # (N, 3) background_colours of the whole picture
    skin: Tensor,  # (3,)
) -> Tensor:  # (h, w) bool
    """Pixels of the head that are background: coloured like it, unlike skin, and joined to it.

    Joined: reached from beyond the head through such pixels only, so that brows before a dark background
    stay the person's.
    """
    if not len(colours):
        return torch.zeros_like(outside)
    flat = picture.reshape(3, -1).T
    to_background = torch.cdist(flat[None], colours[None])[0].amin(1)
    to_skin = (flat - skin).norm(dim=1)
    alike = ((to_background < ALIKE) & (to_skin > 2 * to_background)).view(outside.shape)
    reached = outside & alike
    for _ in range(round(DEEPEST * max(outside.shape))):
        grown = max_pool2d(reached[None].float(), 3, stride=1, padding=1)[0] > 0
        grown &= alike
        if torch.equal(grown, reached):
            break
        reached = grown
    return reached & ~outside
