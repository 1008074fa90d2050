"""Backward flow on a synthetic head: an ellipsoid with a nose, jaw, smile and a texture in closed form."""

import math

import pytest
import torch
import torch.nn.functional as F

from magicportrait_core.head.skinning import axis_angle_to_matrix
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.rendering.flow import (
    facing,
    facing_confidence,
    flow_along_rays,
    surface_flow,
    visible_in_source,
)
from magicportrait_core.rendering.rasterizer import rasterize

SIZE = (160, 128)
OFFSETS = torch.linspace(-0.01, 0.01, 5)


def sphere(rows=60, columns=120):
    """Vertices (V, 3) and outward triangles of a unit sphere, poles included as rings of zero radius."""
    theta = torch.linspace(0, math.pi, rows + 1)[:, None].expand(-1, columns)
    phi = torch.linspace(0, 2 * math.pi, columns + 1)[:-1].expand(rows + 1, -1)
    points = torch.stack((theta.sin() * phi.sin(), theta.cos(), theta.sin() * phi.cos()), -1).reshape(-1, 3)
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    a, b = row * columns + column, row * columns + (column + 1) % columns
    c, d = a + columns, b + columns
    faces = torch.cat((torch.stack((a, c, b), -1).reshape(-1, 3), torch.stack((b, c, d), -1).reshape(-1, 3)))
    return points, faces


UNIT, FACES = sphere()


def bump(centre, width):
    centre = torch.tensor(centre) / torch.tensor(centre).norm()
    return torch.exp(-((UNIT - centre) ** 2).sum(-1, keepdim=True) / (2 * width**2))


def head(jaw=0.0, smile=0.0, turn=(0.0, 0.0, 0.0)):
    """(1, V, 3) camera space, 0.6 m away."""
    v = UNIT * torch.tensor([0.075, 0.105, 0.09]) + 0.018 * UNIT * bump([0.0, -0.05, 1.0], 0.12)
    v = v + jaw * bump([0.0, -0.45, 0.9], 0.16) * torch.tensor([0.0, -0.012, -0.004])
    for side in (-1, 1):
        v = v + smile * bump([0.3 * side, -0.4, 0.87], 0.10) * torch.tensor([0.006 * side, 0.010, -0.002])
    v = v @ axis_angle_to_matrix(torch.tensor([math.radians(a) for a in turn])).T
    return (v + torch.tensor([0.0, 0.0, -0.6]))[None]


def camera(size):
    height, width = size
    return Camera(torch.eye(3, 4)[None], torch.tensor([[2.2 * width, width / 2, height / 2]]), size)


def fragments(vertices, size=SIZE):
    return rasterize(camera(size).project_camera(vertices), FACES, size, backend="torch")


def texture(points):  # (..., 3) points of the resting head -> (..., 3) in [-1, 1], smooth
    return torch.stack(
        ((60 * points[..., 0] + 3).sin(), (70 * points[..., 1]).sin(), (50 * points[..., 2] + 1).sin()), -1
    )


def test_flow_to_the_same_mesh_is_exactly_zero_on_the_surface():
    vertices = head(jaw=0.7, turn=(5, -20, 3))
    seen = fragments(vertices)
    flow = surface_flow(seen, FACES, vertices, vertices)
    assert seen.covered.float().mean() > 0.2
    assert (flow.flow == 0).all()


def test_flow_to_the_same_mesh_is_zero_off_the_surface():
    vertices = head(jaw=0.7, turn=(5, -20, 3)).double()
    flow = flow_along_rays(fragments(vertices.float()), FACES, vertices, vertices, OFFSETS)
    assert flow.abs().max() < 1e-9  # metres; clamped barycentrics are 4e-3 m wrong here


@pytest.mark.parametrize("perspective", [True, False])
def test_a_rigid_motion_is_found_on_and_off_the_surface(perspective):
    source = head(turn=(4, -15, 2)).double()
    rotation = axis_angle_to_matrix(torch.tensor([0.1, 0.4, -0.2], dtype=torch.float64))
    centre = torch.tensor([0.02, -0.01, -0.6], dtype=torch.float64)
    shift = centre - rotation @ centre  # turned about the head, or it would leave the picture
    target = (source - shift) @ rotation  # so that source = R target + t
    seen = fragments(target.float())
    flow = flow_along_rays(seen, FACES, target, source, OFFSETS, perspective)
    surface = surface_flow(seen, FACES, target, source).target
    ray = surface / -surface[..., 2:].clamp(max=-0.1) if perspective else surface.new_tensor([0.0, 0.0, -1.0])
    points = surface[:, None] + OFFSETS[None, :, None, None, None] * (ray[:, None] if perspective else ray)
    expected = points @ rotation.T + shift - points
    error = (flow - expected)[seen.covered[:, None].expand(-1, len(OFFSETS), -1, -1)]
    assert error.abs().max() < 1e-6  # the fragments are float32


def test_the_middle_sample_is_the_flow_at_the_surface():
    source, target = head(), head(jaw=1, smile=1, turn=(8, 25, 0))
    seen = fragments(target)
    along = flow_along_rays(seen, FACES, target, source, torch.tensor([-0.01, 0.0, 0.01]))
    torch.testing.assert_close(along[:, 1], surface_flow(seen, FACES, target, source).flow)


def test_a_warped_textured_head_equals_its_true_render_where_visible():
    """25 degrees of yaw, 8 of pitch, jaw and smile: at least 50 dB against the render of the moved head.

    The texture is smooth and the portrait is rendered at four times the size, so that what is measured is the
    flow and the visibility, not the resampling of a coarse photo; sampling is bicubic.
    """
    source, target = head(), head(jaw=1, smile=1, turn=(8, 25, 0))
    rest = head()[0] + torch.tensor([0.0, 0.0, 0.6])
    large = (4 * SIZE[0], 4 * SIZE[1])
    photo_fragments, seen = fragments(source, large), fragments(target)
    photo = texture(photo_fragments.interpolate(rest[None], FACES)) * photo_fragments.covered[..., None]
    truth = texture(seen.interpolate(rest[None], FACES))

    flow = surface_flow(seen, FACES, target, source)
    pixels = camera(large).project_camera(flow.source.reshape(1, -1, 3)).reshape(*flow.source.shape)
    grid = pixels[..., :2] * torch.tensor([2 / large[1], 2 / large[0]]) - 1
    warped = F.grid_sample(photo.permute(0, 3, 1, 2), grid, mode="bicubic", align_corners=False)
    warped = warped.permute(0, 2, 3, 1)

    normals = {name: vertex_normals_of(v) for name, v in (("source", source), ("target", target))}
    cosines = torch.stack((facing(source, normals["source"]), facing(target, normals["target"])), -1)
    cosine_source, cosine_target = seen.interpolate(cosines, FACES).unbind(-1)
    visible = visible_in_source(pixels, photo_fragments.depth[0]) > 0.5
    visible &= facing_confidence(cosine_source, cosine_target) > 0.5
    inside = -F.max_pool2d(-photo_fragments.covered[:, None].float(), 17, 1, 8)  # 2 target pixels inside
    visible &= F.grid_sample(inside, grid, align_corners=False)[:, 0] > 0.99
    visible &= seen.covered
    assert visible[seen.covered].float().mean() > 0.6
    error = ((warped - truth)[visible] ** 2).mean()
    assert 10 * math.log10(4 / error) > 50  # peak to peak 2


def test_the_far_side_of_a_turned_head_is_not_visible_in_the_portrait():
    source, target = head(), head(turn=(0, 40, 0))
    seen = fragments(target)
    photo = fragments(source)
    flow = surface_flow(seen, FACES, target, source)
    pixels = camera(SIZE).project_camera(flow.source.reshape(1, -1, 3)).reshape(*flow.source.shape)
    visible = visible_in_source(pixels, photo.depth[0])
    behind = seen.covered & (flow.source[..., 2] < -0.62)  # points of the back half of the resting head
    front = seen.covered & (flow.source[..., 2] > -0.54)
    assert behind.sum() > 200 and visible[behind].max() == 0
    assert front.sum() > 200 and visible[front].min() > 0.9


def test_confidence_is_full_at_rest_even_at_silhouettes():
    cosine = torch.tensor([0.06, 0.3, 1.0])
    torch.testing.assert_close(facing_confidence(cosine, cosine), torch.ones(3))
    assert facing_confidence(torch.tensor(-0.2), torch.tensor(0.8)) == 0


def test_meshes_of_two_heads_are_refused():
    vertices = head()
    with pytest.raises(ValueError, match="same head model"):
        surface_flow(fragments(vertices), FACES, vertices, vertices[:, :-1])


def vertex_normals_of(vertices):
    a, b, c = vertices[:, FACES].unbind(2)
    normal = torch.linalg.cross(b - a, c - a)
    summed = torch.zeros_like(vertices)
    for corner in range(3):
        summed.index_add_(1, FACES[:, corner], normal)
    return F.normalize(summed, dim=-1)
