"""Every rasteriser backend against the slow twin, hand-made cases and the released system's fragments."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from magicportrait_core.rendering import rasterizer_numba, rasterizer_pytorch3d
from magicportrait_core.rendering.rasterizer import rasterize
from magicportrait_core.rendering.rasterizer_reference import rasterize_reference
from magicportrait_core.rendering.rasterizer_span import _triangle_spans, _z_test_two_pass, visible_triangles
from magicportrait_core.rendering.reinterpolation import reinterpolate

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
BACKENDS = ["torch", "numba"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == "numba":
        pytest.importorskip("numba")
    return request.param


def sphere(rings: int = 12, size: tuple[int, int] = (48, 64), distance: float = 4.0):
    """A closed sphere in perspective, (1, V, 3) on the screen, and its faces."""
    latitude = torch.linspace(0, torch.pi, rings + 1)[:, None]
    longitude = torch.arange(2 * rings)[None] * (torch.pi / rings) + 0.1
    points = torch.stack(
        (
            latitude.sin() * longitude.cos(),
            latitude.cos() + 0 * longitude,
            latitude.sin() * longitude.sin(),
        ),
        dim=-1,
    ).view(-1, 3)
    row, column = torch.meshgrid(torch.arange(rings), torch.arange(2 * rings), indexing="ij")
    a, b = row * 2 * rings + column, row * 2 * rings + (column + 1) % (2 * rings)
    c, d = a + 2 * rings, b + 2 * rings
    faces = torch.cat((torch.stack((a, b, c), -1).view(-1, 3), torch.stack((b, d, c), -1).view(-1, 3)))
    depth = distance - points[:, 2]
    focal = 1.6 * min(size)
    screen = torch.stack(
        (size[1] / 2 + focal * points[:, 0] / depth, size[0] / 2 - focal * points[:, 1] / depth, depth),
        dim=-1,
    )
    return screen[None], faces


def soup(count: int, size: tuple[int, int], seed: int):
    """Random triangles: small, huge, off the picture, behind the camera, degenerate, not finite."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 3, 3, generator=generator)
    spread = 10 ** (torch.rand(count, 1, 1, generator=generator) * 4 - 1.5)
    centre = torch.rand(count, 1, 3, generator=generator) * 1.6 - 0.3
    corners = (centre + (corners - 0.5) * spread) * torch.tensor([size[1], size[0], 0.0])
    corners[..., 2] = torch.rand(count, 3, generator=generator) * 5 - 0.4
    corners[0, 2] = corners[0, 1]  # a line
    corners[1] = corners[1, :1]  # a point
    corners[2, 0, 0] = float("nan")
    corners[3, 1, 1] = float("inf")
    corners[4, 2, :2] = 3e30
    return corners.view(1, -1, 3), torch.arange(3 * count).view(-1, 3)


def assert_like_twin(found, screen, faces, size, perspective, cull):
    """Equal triangles, except where two depths agree to float32 rounding; else equal values."""
    slow = rasterize_reference(screen, faces, size, perspective, cull)
    differ = found.triangle != slow.triangle
    assert torch.equal(found.covered, slow.covered)
    gap = (found.depth - slow.depth).abs()
    assert (gap[differ] <= 2e-6 * slow.depth[differ].abs()).all(), "not a tie"
    assert differ.sum() <= 0.001 * differ.numel()
    torch.testing.assert_close(found.depth[~differ], slow.depth[~differ], rtol=1e-4, atol=1e-5)
    assert (found.barycentric - slow.barycentric)[~differ].abs().quantile(0.99) < 1e-5
    return int(differ.sum())


@pytest.mark.parametrize("perspective", [True, False])
@pytest.mark.parametrize("cull", [True, False])
@pytest.mark.parametrize("size", [(48, 64), (7, 5)])
def test_sphere_matches_slow_twin(backend, size, perspective, cull):
    screen, faces = sphere(size=size)
    found = rasterize(screen, faces, size, perspective, cull, backend)
    assert assert_like_twin(found, screen, faces, size, perspective, cull) == 0
    assert found.covered.float().mean() > 0.2


@pytest.mark.parametrize("perspective", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_triangle_soup_matches_slow_twin(backend, seed, perspective):
    size = (40, 56)
    screen, faces = soup(150, size, seed)
    assert_like_twin(
        rasterize(screen, faces, size, perspective, False, backend), screen, faces, size, perspective, False
    )


def test_frames_of_a_batch_do_not_mix(backend):
    size = (32, 32)
    screen, faces = sphere(size=size)
    moved = torch.cat(
        (screen, screen + torch.tensor([5.3, -2.1, 0.2]), screen * torch.tensor([0.5, 0.5, 1.0]))
    )
    together = rasterize(moved, faces, size, backend=backend)
    for frame in range(3):
        alone = rasterize(moved[frame : frame + 1], faces, size, backend=backend)
        for name in ("triangle", "barycentric", "depth"):
            assert torch.equal(getattr(together, name)[frame], getattr(alone, name)[0])


def test_span_of_several_frames_at_once_matches_single_frames():
    size = (24, 40)
    screen, faces = sphere(size=size)
    moved = torch.cat((screen, screen + torch.tensor([5.3, -2.1, 0.2])))
    triangle = visible_triangles(moved, faces, size, True, False)
    batch = reinterpolate(moved, faces, triangle)
    for frame in range(2):
        alone = rasterize(moved[frame : frame + 1], faces, size, backend="torch")
        assert torch.equal(batch.triangle[frame], alone.triangle[0])
        torch.testing.assert_close(batch.barycentric[frame], alone.barycentric[0])


def test_samples_on_an_edge_belong_to_nobody(backend):
    # A square of two triangles whose corners are pixel centres: border and diagonal are dropped.
    screen = torch.tensor([[[0.5, 0.5, 1.0], [4.5, 0.5, 1.0], [0.5, 4.5, 1.0], [4.5, 4.5, 1.0]]])
    faces = torch.tensor([[0, 2, 1], [1, 2, 3]])
    found = rasterize(screen, faces, (6, 6), backend=backend).triangle[0]
    expected = torch.tensor(
        [
            [-1, -1, -1, -1, -1, -1],
            [-1, 0, 0, -1, -1, -1],
            [-1, 0, -1, 1, -1, -1],
            [-1, -1, 1, 1, -1, -1],
            [-1, -1, -1, -1, -1, -1],
            [-1, -1, -1, -1, -1, -1],
        ]
    )
    assert torch.equal(found, expected)


def test_shared_edges_leave_no_gap_and_no_overlap(backend):
    # An irregular fan around a point: every pixel inside the hull belongs to exactly one triangle.
    angle = torch.tensor([0.0, 0.7, 1.1, 2.9, 3.3, 4.0, 5.5])
    rim = torch.stack((32.37 + 29 * angle.cos(), 31.81 + 28 * angle.sin(), 2 + 0 * angle), dim=-1)
    screen = torch.cat((torch.tensor([[30.123, 33.77, 1.0]]), rim))[None]
    faces = torch.stack(
        (torch.zeros(7, dtype=torch.long), torch.arange(1, 8), torch.arange(1, 8) % 7 + 1), dim=1
    )
    together = rasterize(screen, faces, (64, 64), backend=backend).covered
    apart = sum(rasterize(screen, face[None], (64, 64), backend=backend).covered.int() for face in faces)
    assert apart.max() == 1 and torch.equal(apart.bool(), together)


def test_equal_depths_go_to_the_lower_face(backend):
    screen, faces = sphere(rings=4, size=(32, 32))
    doubled = torch.cat((faces.flip(0), faces.flip(0)))
    found = rasterize(screen, doubled, (32, 32), backend=backend)
    assert 0 <= found.triangle[found.covered].max() < len(faces)


def test_smaller_depth_wins_and_negative_depths_work_without_perspective(backend):
    corners = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    near = torch.cat((corners, torch.full((3, 1), -7.0)), dim=1)
    far = torch.cat((corners, torch.full((3, 1), -2.0)), dim=1)
    screen = torch.cat((far, near))[None]
    found = rasterize(screen, torch.arange(6).view(2, 3), (6, 6), perspective=False, backend=backend)
    assert found.triangle[0, 1, 1] == 1
    assert found.depth[0, 1, 1].item() == pytest.approx(-7.0)
    behind = rasterize(screen, torch.arange(6).view(2, 3), (6, 6), perspective=True, backend=backend)
    assert not behind.covered.any()


def test_triangle_through_the_camera_plane_is_dropped(backend):
    screen = torch.tensor([[[0.0, 0.0, 1.0], [9.0, 0.0, 1.0], [0.0, 9.0, -0.1]]])
    assert not rasterize(screen, torch.tensor([[0, 1, 2]]), (6, 6), backend=backend).covered.any()


def test_perspective_barycentrics_by_hand(backend):
    # Half-way on the screen between depths 1 and 3 is a quarter of the way in space: depth 1.5.
    screen = torch.tensor([[[0.5, -4.0, 1.0], [8.5, -4.0, 3.0], [4.5, 40.0, 1.5]]])
    edge = rasterize(screen, torch.tensor([[0, 1, 2]]), (1, 9), backend=backend)
    weights = edge.barycentric[0, 0, 4]
    assert (weights[1] / (weights[0] + weights[1])).item() == pytest.approx(0.25, abs=1e-4)
    assert edge.depth[0, 0, 4].item() == pytest.approx(1.5, abs=1e-5)
    plain = rasterize(screen, torch.tensor([[0, 1, 2]]), (1, 9), perspective=False, backend=backend)
    weights = plain.barycentric[0, 0, 4]
    assert (weights[1] / (weights[0] + weights[1])).item() == pytest.approx(0.5, abs=1e-4)


def test_culling_keeps_triangles_that_run_counter_clockwise(backend):
    screen = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 9.0, 1.0], [9.0, 0.0, 1.0]]])
    front, back = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 2, 1]])
    assert rasterize(screen, front, (4, 4), cull=True, backend=backend).covered.any()
    assert not rasterize(screen, back, (4, 4), cull=True, backend=backend).covered.any()


def test_huge_triangles_stay_within_the_memory_bound(backend, monkeypatch):
    monkeypatch.setattr("magicportrait_core.rendering.rasterizer_span.MAX_CANDIDATES", 500)
    size = (40, 56)
    screen, faces = soup(60, size, 9)
    assert_like_twin(rasterize(screen, faces, size, True, False, backend), screen, faces, size, True, False)


def test_two_pass_z_test_of_mps_agrees():
    size = (40, 56)
    for screen, faces in (sphere(size=size), soup(100, size, 2)):
        for perspective in (True, False):
            spans = _triangle_spans(screen, faces, size, perspective, False)
            expected = visible_triangles(screen, faces, size, perspective, False)
            assert torch.equal(_z_test_two_pass(spans, expected.numel()).view_as(expected), expected)


def test_nothing_to_draw(backend):
    found = rasterize(torch.zeros(2, 4, 3), torch.zeros(0, 3, dtype=torch.long), (5, 6), backend=backend)
    assert not found.covered.any() and found.barycentric.abs().max() == 0 and found.depth.shape == (2, 5, 6)
    away = torch.tensor([[[-9.0, 1.0, 1.0], [-5.0, 1.0, 1.0], [-7.0, 4.0, 1.0]]])
    assert not rasterize(away, torch.tensor([[0, 1, 2]]), (5, 6), backend=backend).covered.any()


def test_released_fragments(backend):
    golden = load_file(GOLDEN / "render_io.safetensors")
    screen = golden["transformed_vertices"].clone()
    screen[..., :2] = (screen[..., :2] + 1) * 32  # normalised to pixels of 64x64
    found = rasterize(screen, golden["faces"].long(), (64, 64), perspective=False, backend=backend)
    assert torch.equal(found.triangle[0], golden["pix_to_face"].long())
    seen = golden["pix_to_face"] >= 0
    # pytorch3d adds 1e-8 to the area it divides by: 1e-5 on this head's smallest triangles.
    torch.testing.assert_close(found.barycentric[0][seen], golden["bary"][seen], rtol=0, atol=2e-5)


def test_reinterpolated_barycentrics_have_the_right_gradient():
    screen = torch.tensor(
        [[[0.3, 0.2, 1.0], [9.1, 0.7, 2.0], [1.2, 8.4, 1.5]]], dtype=torch.float64, requires_grad=True
    )
    triangle = torch.full((1, 3, 3), -1)
    triangle[0, 1, 1] = 0

    def values(points):
        fragments = reinterpolate(points, torch.tensor([[0, 1, 2]]), triangle)
        return fragments.barycentric, fragments.depth

    assert torch.autograd.gradcheck(values, (screen,))


def test_numba_failing_its_self_test_falls_back_to_torch(monkeypatch, caplog):
    pytest.importorskip("numba")
    screen, faces = sphere(size=(16, 16))
    monkeypatch.setattr(rasterizer_numba, "failure", lambda run: "3 of 256 triangle numbers differ")
    rasterizer_numba.works.cache_clear()
    try:
        with caplog.at_level("WARNING", logger="magicportrait"):
            found = rasterize(screen, faces, (16, 16))
            rasterize(screen, faces, (16, 16))
        assert torch.equal(found.triangle, rasterize(screen, faces, (16, 16), backend="torch").triangle)
        assert [record.message for record in caplog.records] == [
            "numba fails the rasteriser's self-test (3 of 256 triangle numbers differ); "
            "using torch, which is slower"
        ]
        with pytest.raises(RuntimeError, match="needs a working numba"):
            rasterize(screen, faces, (16, 16), backend="numba")
    finally:
        rasterizer_numba.works.cache_clear()


def test_numba_without_a_cache_folder_compiles_in_memory(monkeypatch):
    numba = pytest.importorskip("numba")
    real = numba.njit

    def njit(*args, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function '_rasterize_rows': no locator available")
        return real(*args, **options)

    monkeypatch.setattr(numba, "njit", njit)
    assert rasterizer_numba.compile_kernel(lambda a: a + 1)(2) == 3


def test_pytorch3d_gives_the_same_fragments_or_says_why_not():
    screen, faces = sphere(rings=6, size=(32, 32))
    problem = rasterizer_pytorch3d._problem("cpu")
    if problem:
        with pytest.raises(RuntimeError, match="backend='pytorch3d' cannot be used"):
            rasterize(screen, faces, (32, 32), backend="pytorch3d")
        return
    for perspective in (True, False):
        found = rasterize(screen, faces, (32, 32), perspective, backend="pytorch3d")
        expected = rasterize(screen, faces, (32, 32), perspective, backend="reference")
        assert torch.equal(found.triangle, expected.triangle)
        torch.testing.assert_close(found.depth, expected.depth, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(screen=torch.zeros(4, 3)), "expected \\(F, V, 3\\)"),
        (dict(faces=torch.zeros(2, 4, dtype=torch.long)), "expected \\(T, 3\\) integers"),
        (dict(faces=torch.tensor([[0, 1, 9]])), "name vertices 0..9 but there are 4"),
        (dict(size=(0, 5)), "at least one pixel"),
        (dict(backend="vulkan"), "expected one of auto, torch"),
    ],
)
def test_wrong_input_is_explained(change, sentence):
    arguments = dict(screen=torch.zeros(1, 4, 3), faces=torch.tensor([[0, 1, 2]]), size=(5, 5)) | change
    with pytest.raises(ValueError, match=sentence):
        rasterize(**arguments)
