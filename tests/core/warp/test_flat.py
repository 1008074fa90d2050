"""The head behind the face is flatter, and still where the photo shows it."""

from dataclasses import replace

import pytest
import torch

from magicportrait_core.rendering.camera import Camera
from magicportrait_core.warp.flat import flattening_offsets


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_what_lies_behind_the_face_moves_along_the_rays_alone(head, portrait, projection):
    track = portrait
    if projection == "orthographic":
        camera = track.camera
        track = replace(track, camera=Camera(camera.view, camera.intrinsics, camera.size, projection))
    nothing, rigid = torch.zeros_like(head.template), torch.ones(len(head.template))
    offsets = flattening_offsets(head, track, nothing, rigid)
    before, after = (
        head.vertices(track.shape, track.expression, track.pose, given) for given in (nothing, offsets)
    )
    firm = head.skin_weights[:, 1] > 0.999  # what turns with the skull
    places = [track.camera.project(vertices)[0, firm, :2] for vertices in (before, after)]
    torch.testing.assert_close(places[0], places[1], rtol=0, atol=0.05)
    depths = [track.camera.to_camera(vertices)[0, firm, 2] for vertices in (before, after)]
    assert depths[1].min() > depths[0].min() + 0.03  # metres: the back of the head came nearer
    assert torch.allclose(depths[1].max(), depths[0].max())  # the nose did not move
