"""Which triangle is seen at each pixel, in plain torch: exact scanline spans, then one z-test by scatter.

Every triangle is cut into its pixel rows, every row into the run of pixel centres strictly between the two
edges that bound it, and every pixel keeps the nearest triangle. The two crossings of a row depend only on the
edge they lie on, so triangles that share an edge neither overlap nor leave a gap.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NEAR = 1e-6  # metres; perspective triangles with a vertex at or behind this depth are dropped, not clipped
LIMIT = (
    2.0**24
)  # pixels; float32 holds no fractions beyond it, triangles that reach there are dropped as well
MIN_AREA = 1e-8  # as pytorch3d, doubled area where the shorter side of the picture is 2
MAX_CANDIDATES = 1 << 23  # pixels tested at a time; bounds the memory of scenes with very large triangles


class _Spans(NamedTuple):
    """Runs of pixels along a row that lie inside one triangle."""

    first: Tensor  # (M,) index of the first pixel in the flattened (F, H, W) pictures
    count: Tensor  # (M,) pixels
    triangle: Tensor  # (M,)
    order: Tensor  # (M,) float32, order value at the first pixel; smaller is nearer
    slope: Tensor  # (M,) float32, change of the order value per pixel


def min_area_pixels(size: tuple[int, int]) -> float:
    """Doubled area in square pixels at or below which a triangle is skipped."""
    return MIN_AREA * (min(size) / 2) ** 2


@torch.no_grad()
def visible_triangles(
    screen: Tensor,  # (F, V, 3) x, y in pixels, depth
    faces: Tensor,  # (T, 3) int64
    size: tuple[int, int],  # height, width
    perspective: bool,
    cull: bool,
) -> Tensor:  # (F, H, W) int64, -1 where empty
    """The nearest triangle at every pixel centre; of equally near ones that with the lower index."""
    height, width = size
    spans = _triangle_spans(screen, faces, size, perspective, cull)
    pixels = screen.shape[0] * height * width
    test = _z_test_two_pass if screen.device.type == "mps" else _z_test_packed
    return test(spans, pixels).view(screen.shape[0], height, width)


def _triangle_spans(
    screen: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool, cull: bool
) -> _Spans:
    height, width = size
    # float64 makes the strict inside test exact for float32 vertices; MPS has none and rounds at edges.
    exact = torch.float32 if screen.device.type == "mps" else torch.float64
    corners = screen.detach()[:, faces.reshape(-1)].to(exact).view(-1, 3, 3)  # (F*T, 3 corners, 3)
    x, y, z = corners.unbind(-1)
    ax, ay, bx, by = x[:, 1] - x[:, 0], y[:, 1] - y[:, 0], x[:, 2] - x[:, 0], y[:, 2] - y[:, 0]
    area = bx * ay - by * ax  # positive for front faces: counter-clockwise with y up
    top = torch.floor(y.amin(1) - 0.5) + 1  # first and last row centre strictly inside
    bottom = torch.ceil(y.amax(1) - 0.5) - 1
    keep = (bottom >= 0) & (top < height) & (x.amax(1) > 0.5) & (x.amin(1) < width - 0.5) & (bottom >= top)
    keep &= ((area if cull else area.abs()) > min_area_pixels(size)) & torch.isfinite(z).all(1)
    keep &= (x.abs().amax(1) <= LIMIT) & (y.abs().amax(1) <= LIMIT)
    if perspective:
        keep &= z.amin(1) > NEAR
    kept = keep.nonzero().squeeze(1)
    x, y, z, area = x[kept], y[kept], z[kept], area[kept]
    ax, ay, bx, by = ax[kept], ay[kept], bx[kept], by[kept]

    # Perspective: -1 / depth is linear on the screen and grows with depth. Orthographic: depth itself is.
    order = -1 / z if perspective else z
    d1, d2 = (order[:, 1] - order[:, 0]) / area, (order[:, 2] - order[:, 0]) / area
    slope_x, slope_y = ay * d2 - by * d1, bx * d1 - ax * d2
    plane = torch.stack((x[:, 0], y[:, 0], order[:, 0], slope_x, slope_y), dim=1)

    top, bottom = top[kept].clamp(min=0), bottom[kept].clamp(max=height - 1)
    rows, owner, offset = _expand((bottom - top + 1).long())
    row = top.long()[owner] + offset
    centre = row.to(exact) + 0.5
    left, right = _crossings(x, y, centre, owner)
    first = (torch.floor(left - 0.5) + 1).clamp(0, width)
    last = (torch.ceil(right - 0.5) - 1).clamp(-1, width - 1)
    hit = (last >= first).nonzero().squeeze(1)
    owner, row, centre, first, last = owner[hit], row[hit], centre[hit], first[hit], last[hit]

    x0, y0, o0, slope_x, slope_y = plane.index_select(0, owner).unbind(1)
    start = o0 + (first + 0.5 - x0) * slope_x + (centre - y0) * slope_y
    number = kept[owner]
    frame = torch.div(number, faces.shape[0], rounding_mode="floor")
    return _Spans(
        first=(frame * height + row) * width + first.long(),
        count=(last - first).long() + 1,
        triangle=number - frame * faces.shape[0],
        order=start.float(),
        slope=slope_x.float(),
    )


def _crossings(
    x: Tensor,  # (N, 3) corners
    y: Tensor,  # (N, 3)
    centre: Tensor,  # (M,) y of a row of pixel centres, strictly between the triangle's top and bottom
    owner: Tensor,  # (M,) its triangle
) -> tuple[Tensor, Tensor]:  # (M,) x where the row enters and leaves the triangle
    """Every edge is walked from its upper corner, so two triangles agree on the edge they share."""
    rank = y.argsort(dim=1, stable=True)
    (xt, xm, xb), (yt, ym, yb) = x.gather(1, rank).unbind(1), y.gather(1, rank).unbind(1)
    long = torch.stack((xt, yt, xb - xt, yb - yt), dim=1)
    upper = torch.stack((xt, yt, xm - xt, ym - yt), dim=1)
    lower = torch.stack((xm, ym, xb - xm, yb - ym), dim=1)
    short = torch.stack((upper, lower), dim=1).view(-1, 4)
    below = (centre >= ym.index_select(0, owner)).long()

    def cross(edges: Tensor, which: Tensor) -> Tensor:
        ex, ey, dx, dy = edges.index_select(0, which).unbind(1)
        return ex + (centre - ey) * dx / dy

    one, other = cross(long, owner), cross(short, owner * 2 + below)
    return torch.minimum(one, other), torch.maximum(one, other)


def _expand(count: Tensor) -> tuple[int, Tensor, Tensor]:
    """Total of `count` (M,), then for each of that many elements its owner in 0..M-1 and its number there."""
    ends = count.cumsum(0)
    total = int(ends[-1]) if count.numel() else 0
    owner = torch.repeat_interleave(count, output_size=total)
    offset = torch.arange(total, device=count.device) - (ends - count).index_select(0, owner)
    return total, owner, offset


def _groups(spans: _Spans):
    """The spans in groups of at most MAX_CANDIDATES pixels (one span is never longer than a row)."""
    ends = spans.count.cumsum(0)
    total = int(ends[-1]) if ends.numel() else 0
    if total <= MAX_CANDIDATES:
        yield spans
        return
    limits = torch.arange(MAX_CANDIDATES, total, MAX_CANDIDATES, device=ends.device)
    cuts = [0, *torch.searchsorted(ends, limits).tolist(), ends.numel()]
    for begin, end in zip(cuts[:-1], cuts[1:], strict=True):
        yield _Spans(*(column[begin:end] for column in spans))


def _candidates(spans: _Spans) -> tuple[Tensor, Tensor, Tensor]:
    """(P,) pixel, order value and triangle of every pixel of every span."""
    _, owner, offset = _expand(spans.count)
    order = spans.order.index_select(0, owner) + offset * spans.slope.index_select(0, owner)
    return spans.first.index_select(0, owner) + offset, order, spans.triangle.index_select(0, owner)


def _z_test_packed(spans: _Spans, pixels: int) -> Tensor:
    """One pass: the sortable bits of the order value above the triangle's number, smallest wins."""
    empty = torch.iinfo(torch.int64).max
    best = torch.full((pixels,), empty, dtype=torch.int64, device=spans.first.device)
    for group in _groups(spans):
        pixel, order, triangle = _candidates(group)
        bits = order.view(torch.int32)
        bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # integers that sort as the floats do, negative ones too
        best.scatter_reduce_(0, pixel, (bits.long() << 32) | triangle, "amin")
    return torch.where(best == empty, -1, best & 0xFFFFFFFF)


def _z_test_two_pass(spans: _Spans, pixels: int) -> Tensor:
    """Smallest order value, then smallest triangle number among its owners; float32 reductions only (MPS)."""
    infinity = float("inf")
    nearest = torch.full((pixels,), infinity, device=spans.first.device)
    for group in _groups(spans):
        pixel, order, _ = _candidates(group)
        nearest.scatter_reduce_(0, pixel, order, "amin")
    best = torch.full_like(nearest, infinity)  # numbers up to 2**24 are exact in float32
    for group in _groups(spans):
        pixel, order, triangle = _candidates(group)
        number = torch.where(order == nearest[pixel], triangle.float(), infinity)
        best.scatter_reduce_(0, pixel, number, "amin")
    return torch.where(best == infinity, -1, best).long()
