"""The rasteriser as one compiled CPU loop, for those who have numba. Same rules and rows as the torch one."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .fragments import Fragments
from .rasterizer_selftest import failure
from .rasterizer_span import LIMIT, NEAR, min_area_pixels

LOG = logging.getLogger("magicportrait")
BANDS_PER_THREAD = (
    3  # rows are shared out in bands, more than threads because a head is not as tall everywhere
)


def compile_kernel(function: Callable) -> Callable:
    """`function` compiled by numba without the GIL, cached on disk where a cache folder can be written."""
    import numba

    # The cached code imports its module by name, and ComfyUI names modules after their folder: cached per
    # name, or a moved folder would find code that it cannot load.
    where = hashlib.sha256(function.__module__.encode()).hexdigest()[:8]
    function.__qualname__ = f"{function.__name__}_{where}"
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba's "no locator available": neither this folder nor the user's can be written
        return numba.njit(**options)(function)


def run_in_bands(work: Callable[[int, int], None], rows: int) -> None:
    """work(first, last) over 0..rows on as many threads as torch uses; `work` must release the GIL.

    Plain threads rather than numba's own pool, whose default on some systems aborts the process when two
    threads of the host enter it.
    """
    threads = max(1, min(torch.get_num_threads(), rows // 16))
    count = threads * BANDS_PER_THREAD if threads > 1 else 1
    bands = iter([(rows * i // count, rows * (i + 1) // count) for i in range(count)])
    errors: list[BaseException] = []

    def take_bands() -> None:
        try:
            for first, last in bands:
                work(first, last)
        except BaseException as error:  # re-raised in the caller's thread
            errors.append(error)

    others = [threading.Thread(target=take_bands) for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    take_bands()
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]


@lru_cache(maxsize=1)
def _kernel() -> Callable:
    return compile_kernel(_rasterize_rows)


@lru_cache(maxsize=1)
def works() -> bool:
    """Whether numba is installed and draws the self-test correctly; says so once when it does not."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    except Exception as error:  # numba refuses some numpy versions with exceptions of its own
        LOG.info("numba cannot be used (%s); rendering with torch", error)
        return False
    try:
        problem = failure(_run)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        LOG.warning("numba fails the rasteriser's self-test (%s); using torch, which is slower", problem)
    return problem is None


def rasterize_numba(
    screen: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool = True, cull: bool = False
) -> Fragments:
    """As `rasterize`. RuntimeError when numba is missing or fails its self-test."""
    if not works():
        raise RuntimeError(
            "backend='numba' needs a working numba package, which was not found; "
            "install it (pip install numba) or use backend='torch'"
        )
    return _run(screen, faces, size, perspective, cull)


def _run(screen: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool, cull: bool) -> Fragments:
    frames, (height, width) = screen.shape[0], size
    points = np.ascontiguousarray(screen.detach().cpu().numpy(), np.float32)
    corners = np.ascontiguousarray(faces.cpu().numpy(), np.int64)
    triangle = np.empty((frames, height, width), np.int64)
    barycentric = np.empty((frames, height, width, 3), np.float32)
    depth = np.empty((frames, height, width), np.float32)
    kernel, smallest = _kernel(), min_area_pixels(size)

    for frame in range(frames):
        views = triangle[frame], barycentric[frame], depth[frame]

        def work(first: int, last: int, frame=frame, views=views) -> None:
            kernel(points[frame], corners, first, last, perspective, cull, smallest, *views)

        run_in_bands(work, height)
    to = screen.device
    return Fragments(*(torch.from_numpy(array).to(to) for array in (triangle, barycentric, depth)))


def _rasterize_rows(
    points, faces, first_row, last_row, perspective, cull, smallest, triangle, barycentric, depth
):
    """Fills rows first_row..last_row. points (V, 3) float32, faces (T, 3) int64, outputs (H, W[, 3])."""
    width = triangle.shape[1]
    for row in range(first_row, last_row):
        for column in range(width):
            triangle[row, column] = -1
            depth[row, column] = np.inf  # until the end: the order value, smaller is nearer

    for number in range(faces.shape[0]):
        i0, i1, i2 = faces[number, 0], faces[number, 1], faces[number, 2]
        y0, y1, y2 = np.float64(points[i0, 1]), np.float64(points[i1, 1]), np.float64(points[i2, 1])
        lowest, highest = min(y0, y1, y2), max(y0, y1, y2)
        if not (highest > first_row + 0.5 and lowest < last_row - 0.5):
            continue  # also when a coordinate is not a number
        x0, x1, x2 = np.float64(points[i0, 0]), np.float64(points[i1, 0]), np.float64(points[i2, 0])
        z0, z1, z2 = np.float64(points[i0, 2]), np.float64(points[i1, 2]), np.float64(points[i2, 2])
        ax, ay, bx, by = x1 - x0, y1 - y0, x2 - x0, y2 - y0
        area = bx * ay - by * ax
        extent = max(abs(x0), abs(x1), abs(x2), abs(y0), abs(y1), abs(y2))
        if not (extent <= LIMIT and math.isfinite(area) and math.isfinite(z0 + z1 + z2)):
            continue
        if (area if cull else abs(area)) <= smallest or (perspective and min(z0, z1, z2) <= NEAR):
            continue
        if perspective:
            z0, z1, z2 = -1.0 / z0, -1.0 / z1, -1.0 / z2
        d1, d2 = (z1 - z0) / area, (z2 - z0) / area
        slope_x, slope_y = ay * d2 - by * d1, bx * d1 - ax * d2

        # The upper corner of every edge first, so that neighbours compute the same crossing.
        if y0 > y1:
            xt, yt, xm, ym = x1, y1, x0, y0
        else:
            xt, yt, xm, ym = x0, y0, x1, y1
        if y2 < yt:
            xb, yb, xm, ym, xt, yt = xm, ym, xt, yt, x2, y2
        elif y2 < ym:
            xb, yb, xm, ym = xm, ym, x2, y2
        else:
            xb, yb = x2, y2
        begin = max(first_row, int(max(math.floor(lowest - 0.5) + 1, 0.0)))
        end = int(min(math.ceil(highest - 0.5), np.float64(last_row)))
        for row in range(begin, end):
            centre = row + 0.5
            left = xt + (centre - yt) * (xb - xt) / (yb - yt)
            if centre >= ym:
                right = xm + (centre - ym) * (xb - xm) / (yb - ym)
            else:
                right = xt + (centre - yt) * (xm - xt) / (ym - yt)
            if left > right:
                left, right = right, left
            x_begin = int(min(max(math.floor(left - 0.5) + 1, 0.0), np.float64(width)))
            x_end = int(min(max(math.ceil(right - 0.5), 0.0), np.float64(width)))
            start = z0 + (centre - y0) * slope_y + (0.5 - x0) * slope_x
            for column in range(x_begin, x_end):
                order = np.float32(start + column * slope_x)
                if order < depth[row, column]:
                    depth[row, column] = order
                    triangle[row, column] = number

    for row in range(first_row, last_row):
        for column in range(width):
            number = triangle[row, column]
            if number < 0:
                depth[row, column] = 0
                barycentric[row, column, 0] = 0
                barycentric[row, column, 1] = 0
                barycentric[row, column, 2] = 0
                continue
            i0, i1, i2 = faces[number, 0], faces[number, 1], faces[number, 2]
            x0, y0 = np.float64(points[i0, 0]), np.float64(points[i0, 1])
            ax, ay = points[i1, 0] - x0, points[i1, 1] - y0
            bx, by = points[i2, 0] - x0, points[i2, 1] - y0
            z0, z1, z2 = np.float64(points[i0, 2]), np.float64(points[i1, 2]), np.float64(points[i2, 2])
            dx, dy = column + 0.5 - x0, row + 0.5 - y0
            w1, w2 = dx * by - dy * bx, dy * ax - dx * ay
            w0 = ax * by - bx * ay - w1 - w2
            if perspective:
                w0, w1, w2 = w0 * z1 * z2, w1 * z0 * z2, w2 * z0 * z1
            scale = 1.0 / (w0 + w1 + w2)
            w0, w1, w2 = w0 * scale, w1 * scale, w2 * scale
            barycentric[row, column, 0] = w0
            barycentric[row, column, 1] = w1
            barycentric[row, column, 2] = w2
            depth[row, column] = w0 * z0 + w1 * z1 + w2 * z2
