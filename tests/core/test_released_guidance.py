"""Codes in, guidance out, against a slow direct implementation of the released system's rules (facts d)."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from magicportrait_core.alignment import StructuredFaceAlignment, align_track
from magicportrait_core.guidance import render_guidance
from magicportrait_core.head.flame_files import read_flame
from magicportrait_core.head.safe_pickle import read_pickle
from magicportrait_core.head.texture_space import TextureSpace
from magicportrait_core.head_appearance import released_appearance
from magicportrait_core.tracking.landmarks_68_of_478 import POINTS
from magicportrait_core.tracking.observation import FaceObservations
from magicportrait_core.tracking.released_tracker import (
    ReleasedOptions,
    ReleasedTracker,
    track_portrait_released,
    track_released,
)

SIDE = 512
RELEASED = StructuredFaceAlignment(mode="absolute")
DRIVING_FRAMES = 3


class Says(nn.Module):
    """An encoder that says the given rows, one for each face that comes."""

    def __init__(self, rows):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.rows = list(rows)

    def forward(self, crops):
        return torch.stack([self.rows.pop(0) for _ in crops])


@pytest.fixture(scope="module")
def head(golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flame")
    shutil.copy(golden / "flame_synth.pkl", folder / "generic_model.pkl")
    shutil.copy(golden / "head_template_synth.obj", folder / "head_template.obj")
    generator = torch.Generator().manual_seed(7)
    for name in ("l_eyelid.npy", "r_eyelid.npy"):
        np.save(folder / name, 0.02 * torch.randn(98, 3, generator=generator).numpy())
    return read_flame(folder / "generic_model.pkl"), read_flame(folder / "generic_model.pkl", eyelids=True)


@pytest.fixture(scope="module")
def space():
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(51, 3, 16, 16, generator=generator)
    waves = torch.nn.functional.interpolate(low, (256, 256), mode="bilinear")
    return TextureSpace(0.3 + 0.4 * waves[0], 0.05 * (waves[1:] - 0.5))


@pytest.fixture(scope="module")
def codes():
    """236 + 55 numbers of the portrait, then of the driver's frames."""
    generator = torch.Generator().manual_seed(5)
    deca = 0.3 * torch.randn(1 + DRIVING_FRAMES, 236, generator=generator)
    deca[:, 206:209] = torch.tensor([[5.0, 0.02, -0.03], [7.0, 0.1, 0.1], [4.0, -0.1, 0.0], [6.0, 0.0, 0.1]])
    deca[:, 209:212] += 2.5
    smirk = 0.4 * torch.randn(1 + DRIVING_FRAMES, 55, generator=generator)
    return deca, smirk


def observations(count, box=(150.0, 120.0, 330.0, 345.0)):
    """Faces whose landmarks fill a box; the outermost of the 478 are among the 68 too."""
    left, top, right, bottom = box
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(478, 3, generator=generator)
    points[POINTS[0], :2], points[POINTS[8], :2] = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0])
    points = points * torch.tensor([right - left, bottom - top, 50.0]) + torch.tensor([left, top, 0.0])
    return FaceObservations(
        points=points.expand(count, -1, -1).clone(),
        blendshapes=torch.zeros(count, 52),
        presence=torch.full((count,), 0.9),
        found=torch.ones(count, dtype=torch.bool),
        size=(SIDE, SIDE),
        fps=0.0 if count == 1 else 25.0,
        num_faces=torch.ones(count, dtype=torch.int64),
    )


def pictures(count):
    return [torch.zeros(3, SIDE, SIDE) for _ in range(count)]


def tracked(head, codes, options=None):
    deca, smirk = codes

    def tracker(rows):
        return ReleasedTracker(head, Says(deca[rows]), Says(smirk[rows]), landmarker=None)

    seen = observations(DRIVING_FRAMES)
    driving = track_released(
        pictures(DRIVING_FRAMES), tracker(slice(1, None)), 25.0, options, None, seen
    ).track
    portrait = track_portrait_released(pictures(1)[0], tracker(slice(0, 1)), options, observations(1)).track
    return portrait, driving


# --- the released system, written down slowly ---


def rodrigues(vector):
    angle = np.linalg.norm(vector + 1e-8)
    x, y, z = vector / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def decode(table, shape, expression, rotation, jaw):
    basis = np.asarray(table["shapedirs"], np.float64)
    basis = np.concatenate((basis[..., :100], basis[..., 300:350]), 2)
    rest = np.asarray(table["v_template"], np.float64) + basis @ np.concatenate((shape, expression))
    joints = np.asarray(table["J_regressor"], np.float64) @ rest
    turns = [rodrigues(v) for v in (rotation, np.zeros(3), jaw, np.zeros(3), np.zeros(3))]
    features = np.concatenate([(turn - np.eye(3)).ravel() for turn in turns[1:]])
    rest = rest + np.asarray(table["posedirs"], np.float64) @ features
    chain = []
    for joint, parent in enumerate((-1, 0, 1, 1, 1)):
        local = np.eye(4)
        local[:3, :3] = turns[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        chain.append(local if parent < 0 else chain[parent] @ local)
    for matrix, joint in zip(chain, joints, strict=True):
        matrix[:3, 3] -= matrix[:3, :3] @ joint
    blended = np.einsum("vj,jab->vab", np.asarray(table["weights"], np.float64), np.stack(chain))
    return np.einsum("vab,vb->va", blended[:, :3, :3], rest) + blended[:, :3, 3]


def normals_of(vertices, faces):
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    total = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(total, faces[:, i], np.cross(b - a, c - a))
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-6)


def z_buffer(xy, z, faces):
    """Triangle and barycentrics of every pixel; xy in -1..1, y down, smaller z is nearer."""
    centre = (2 * np.arange(SIDE) + 1) / SIDE - 1
    depth = np.full((SIDE, SIDE), np.inf)
    triangle = np.full((SIDE, SIDE), -1)
    barycentric = np.zeros((SIDE, SIDE, 3))
    for number, face in enumerate(faces):
        (ax, ay), (bx, by), (cx, cy) = xy[face]
        area = (ax - bx) * (cy - by) - (ay - by) * (cx - bx)
        if abs(area) <= 1e-8:
            continue
        columns = np.flatnonzero((centre >= min(ax, bx, cx)) & (centre <= max(ax, bx, cx)))
        rows = np.flatnonzero((centre >= min(ay, by, cy)) & (centre <= max(ay, by, cy)))
        if not len(columns) or not len(rows):
            continue
        x, y = np.meshgrid(centre[columns], centre[rows])
        w0 = ((x - bx) * (cy - by) - (y - by) * (cx - bx)) / (area + 1e-8)
        w1 = ((x - cx) * (ay - cy) - (y - cy) * (ax - cx)) / (area + 1e-8)
        w2 = ((x - ax) * (by - ay) - (y - ay) * (bx - ax)) / (area + 1e-8)
        w = np.stack((w0, w1, w2), -1)
        here = w @ z[face]
        place = np.ix_(rows, columns)
        nearer = (w > 0).all(-1) & (here < depth[place])
        depth[place] = np.where(nearer, here, depth[place])
        triangle[place] = np.where(nearer, number, triangle[place])
        barycentric[place] = np.where(nearer[..., None], w, barycentric[place])
    return triangle, barycentric


def bilinear(texture, u, v):
    """Texture (3, S, S), first row at v = 1, 0 outside."""
    side = texture.shape[-1]
    x, y = u * side - 0.5, (1 - v) * side - 0.5
    out = 0.0
    for dx in (0, 1):
        for dy in (0, 1):
            i, j = np.floor(x) + dx, np.floor(y) + dy
            weight = (1 - abs(x - i)) * (1 - abs(y - j))
            inside = (i >= 0) & (i < side) & (j >= 0) & (j < side)
            texel = texture[:, np.clip(j, 0, side - 1).astype(int), np.clip(i, 0, side - 1).astype(int)]
            out = out + np.where(inside, weight, 0.0) * texel
    return out.T


def shading(normal, light):
    x, y, z = normal.T
    pi = np.pi
    first, second = 2 * pi / 3 * np.sqrt(3 / (4 * pi)), pi / 4 * 3 * np.sqrt(5 / (12 * pi))
    factors = [1 / np.sqrt(4 * pi), *[first] * 3, *[second] * 3]
    factors += [pi / 4 * 1.5 * np.sqrt(5 / (12 * pi)), pi / 4 * 0.5 * np.sqrt(5 / (4 * pi))]
    terms = np.stack((np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1), 1)
    return (terms * factors) @ light


def released_maps(table, head, space, portrait, driver_deca, driver_smirk, box):
    """The mixing table, the camera, and the three pictures as saved."""
    light = portrait[209:].reshape(9, 3)
    scale, tx, ty = portrait[206:209]
    jaw = np.array([max(driver_smirk[52], 0), *np.clip(driver_smirk[53:55], -0.2, 0.2)])
    vertices = decode(table, portrait[:100], driver_smirk[:50], driver_deca[200:203], jaw)
    faces = np.asarray(table["f"], np.int64)
    normals = normals_of(vertices, faces)
    x, y, z = scale * (vertices + [tx, ty, 0]).T
    y, z = -y, -z
    left, top, right, bottom = box
    side = int(1.3 * 1.1 * (right - left + bottom - top) / 2)
    start = np.array([(left + right - side) / 2, (top + bottom - side) / 2])
    in_crop = (np.stack((x, y), 1) * 0.5 + 0.5) * 224
    xy = (in_crop * side / 223 + start) / SIDE * 2 - 1
    nearness = (z.max() - z) / (z.max() - z.min())
    triangle, weights = z_buffer(xy, z, faces)
    drawn = triangle >= 0
    face, w = faces[triangle[drawn]], weights[drawn]
    normal = (normals[face] * w[..., None]).sum(1)
    depth = (nearness[face] * w).sum(1)
    uv = (head.uvs[head.faces_uv].double().numpy()[triangle[drawn]] * w[..., None]).sum(1)
    albedo = space.mean + (torch.from_numpy(portrait[100:150]).float() @ space.components.flatten(1)).reshape(
        3, 256, 256
    )
    render = bilinear(albedo.double().numpy(), uv[:, 0], uv[:, 1]) * shading(normal, light)

    def saved(values):
        picture = np.zeros((SIDE, SIDE, values.shape[-1]))
        picture[drawn] = values
        return np.clip(255 * picture + 0.5, 0, 255).astype(np.uint8).transpose(2, 0, 1)

    return saved(depth[:, None]), saved(normal), saved(render)


@pytest.fixture(scope="module")
def slow(golden, head, space, codes):
    """The three maps of every driving frame."""
    with (golden / "flame_synth.pkl").open("rb") as file:
        table = read_pickle(file)
    deca, smirk = (c.double().numpy() for c in codes)
    box = (150.0, 120.0, 330.0, 345.0)
    frames = range(1, 1 + DRIVING_FRAMES)
    maps = [released_maps(table, head[0], space, deca[0], deca[f], smirk[f], box) for f in frames]
    return [np.stack(kind) for kind in zip(*maps, strict=True)]


def levels(maps):
    return maps.depth_levels, maps.normal_levels.masked_fill(maps._negative, 0), maps.render_levels


def assert_same_pictures(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        difference = (ours.int() - torch.from_numpy(theirs).int()).abs()
        assert (difference > 1).float().mean() < 2e-5  # pixels on edges


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_guidance_is_the_released_systems(head, space, codes, slow, backend):
    portrait, driving = tracked(head[0], codes)
    aligned = align_track(portrait, driving, RELEASED)
    maps = render_guidance(head[0], aligned, released_appearance(space, portrait), backend=backend)
    covered = (slow[0] > 0).mean()
    assert 0.05 < covered < 0.9
    assert all((part == 0).mean() < 0.97 for part in slow)
    assert_same_pictures(levels(maps), slow)


def test_the_test_can_fail(head, space, codes, slow):
    portrait, driving = tracked(head[0], codes)
    other = align_track(driving[0], driving, RELEASED)  # the driver's own person and camera
    maps = render_guidance(head[0], other, released_appearance(space, portrait))
    with pytest.raises(AssertionError):
        assert_same_pictures(levels(maps), slow)


def test_every_quantity_comes_from_where_the_released_system_takes_it(head, codes):
    portrait, driving = tracked(head[0], codes)
    aligned = align_track(portrait, driving, RELEASED)
    deca, smirk = codes
    assert torch.equal(aligned.shape[:, :100], deca[:1, :100]) and not aligned.shape[:, 100:].any()
    assert torch.equal(aligned.texture, deca[:1, 100:150])
    assert torch.equal(aligned.light, deca[:1, 209:].reshape(1, 9, 3))
    assert torch.equal(aligned.camera.intrinsics, portrait.camera.intrinsics.expand(3, -1))
    assert torch.equal(aligned.expression[:, :50], smirk[1:, :50]) and not aligned.expression[:, 50:].any()
    torch.testing.assert_close(aligned.pose[:, 0], deca[1:, 200:203], atol=2e-6, rtol=0)
    assert torch.equal(aligned.pose[:, 2, 0], smirk[1:, 52].clamp(min=0))
    assert torch.equal(aligned.pose[:, 2, 1:], smirk[1:, 53:].clamp(-0.2, 0.2))
    assert not aligned.pose[:, [1, 3, 4]].any()  # neck and eyes


def test_a_batch_does_not_change_a_frame(head, space, codes):
    portrait, driving = tracked(head[0], codes)
    aligned, look = align_track(portrait, driving, RELEASED), released_appearance(space, portrait)
    together = render_guidance(head[0], aligned, look)
    for frame in range(DRIVING_FRAMES):
        alone = render_guidance(head[0], aligned[frame], look)
        assert torch.equal(alone.depth_levels[0], together.depth_levels[frame])
        assert torch.equal(alone.render_levels[0], together.render_levels[frame])


def test_eyelids_move_only_heads_that_have_them(head, space, codes):
    portrait, driving = tracked(head[0], codes)
    aligned, look = align_track(portrait, driving, RELEASED), released_appearance(space, portrait)
    assert torch.equal(aligned.eyelids, codes[1][1:, 50:52].clamp(0, 1)) and aligned.eyelids.any()
    plain, lids = (render_guidance(h, aligned, look) for h in head)
    opened = render_guidance(head[1], replace(aligned, eyelids=torch.zeros(3, 2)), look)
    closing = aligned.eyelids.any(1)
    assert torch.equal(opened.depth_levels, plain.depth_levels)
    for frame in range(DRIVING_FRAMES):
        assert torch.equal(lids.depth_levels[frame], plain.depth_levels[frame]) != bool(closing[frame])


def test_track_without_codes_says_what_to_do(head, space, codes):
    portrait, _ = tracked(head[0], codes)
    with pytest.raises(ValueError, match="no texture and light codes; track the portrait with DECA"):
        released_appearance(space, replace(portrait, light=None))


def test_gaze_is_off_by_default(head, codes):
    seen = observations(1)
    seen.blendshapes[:] = 0.5  # in and out alike, up and down not quite
    deca, smirk = codes
    poses = []
    for options in (None, ReleasedOptions(gaze=True)):
        tracker = ReleasedTracker(head[0], Says(deca[:1]), Says(smirk[:1]), landmarker=None)
        poses.append(track_portrait_released(pictures(1)[0], tracker, options, seen).track.pose)
    assert not poses[0][:, 3:].any() and (poses[1][:, 3:, 0] > 0).all()
