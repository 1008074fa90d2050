"""A portrait whose mouth is covered: the cover turns with the head, and no mouth opens in it."""

from dataclasses import replace

import torch

from magicportrait_core.alignment import align
from magicportrait_core.tracking.tracker import track_portrait
from magicportrait_core.warp import prepare_warp, warp_frame

COLOUR = (0.0, 0.5, 0.6)
LIP, CHIN = 13, 152  # landmarks


def test_no_mouth_opens_in_a_cover(head, landmarker, photo, portrait, moved):
    points = portrait.landmarks[0, [LIP, CHIN], :2]
    middle, radius = points.mean(0), 0.9 * float((points[1] - points[0]).norm())
    rows, columns = torch.meshgrid(*(torch.arange(n) + 0.5 for n in photo.shape[-2:]), indexing="ij")
    distance = torch.stack((columns - middle[0], rows - middle[1])).norm(dim=0)
    hidden = torch.where(distance < radius, torch.tensor(COLOUR)[:, None, None], photo)
    track = track_portrait(hidden, landmarker, head)
    driver = replace(moved(track, turn=(0.0, 6.0, 0.0), jawOpen=0.8), fps=25.0, covered=None)

    frame = warp_frame(prepare_warp(head, hidden, track), align(track, driver, head=head).track).image
    inside = frame[:, distance < 0.7 * radius]
    assert (inside - torch.tensor(COLOUR)[:, None]).abs().max() < 0.1
