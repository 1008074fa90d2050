"""A chin that rises is not seen a second time where the photo shows it."""

from dataclasses import replace

import torch
from hard_pictures import Actor, portrait_of

from magicportrait_core.tracking.tracker import track_portrait
from magicportrait_core.warp import prepare_warp, warp_frame

CHIN = 152  # landmark
GREEN = torch.tensor([-1.0, 1.0, -1.0])[:, None, None]


def green(picture: torch.Tensor) -> torch.Tensor:  # (H, W) bool
    return (picture[1] > 0) & (picture[0] < 0)


def test_the_photos_chin_is_gone_where_the_mouth_shuts(astronaut, landmarker, head):
    photo = Actor.of(portrait_of(astronaut), landmarker).open_mouth()
    track = track_portrait(photo, landmarker, head)
    x, y = track.landmarks[0, CHIN, :2].int().tolist()
    photo[:, y - 8 : y + 4, x - 15 : x + 15] = GREEN  # painted along the edge of the chin
    source = prepare_warp(head, photo, track)
    assert torch.equal(warp_frame(source, track).image, photo)
    shut = track.expression.clone()
    shut[:, head.expression_index("jawOpen")] = 0
    image = warp_frame(source, replace(track, expression=shut)).image
    rows = green(image).any(1).nonzero().squeeze(1)
    assert len(rows) and int(rows.max()) < y - 4  # it rose with the chin, and nothing of it stayed
