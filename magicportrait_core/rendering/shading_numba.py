"""The 8-bit guidance maps in one compiled pass over the fragments, for those who have numba."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch

from . import rasterizer_numba
from .fragments import Fragments
from .rasterizer_numba import compile_kernel, run_in_bands
from .rasterizer_reference import rasterize_reference
from .rasterizer_selftest import SIZE, scene
from .shading import SH_CONSTANTS, Levels, Surface, nearness, shade_levels

LOG = logging.getLogger("magicportrait")


@lru_cache(maxsize=1)
def _kernel() -> Callable:
    return compile_kernel(_shade_rows)


@lru_cache(maxsize=1)
def works() -> bool:
    """Whether numba is installed and shades the self-test as torch does, to one level."""
    if not rasterizer_numba.works():
        return False
    try:
        found, expected = (shade(*_test_input()) for shade in (shade_levels_numba, shade_levels))
        pairs = zip(found, expected, strict=True)
        worst = max(int((a.int() - b.int()).abs().max()) for a, b in pairs)
        problem = f"maps are off by {worst} levels" if worst > 1 else None
    except Exception as error:  # whatever a broken compiler raises: torch is there to do the work
        problem = f"{type(error).__name__}: {error}"
    if problem:
        LOG.warning("numba fails the shading's self-test (%s); using torch, which is slower", problem)
    return problem is None


def shade_levels_numba(fragments: Fragments, surface: Surface) -> Levels:
    """As `shading.shade_levels`, on the CPU."""
    frames, height, width = fragments.triangle.shape
    out = Levels(*(torch.empty(frames, c, height, width, dtype=torch.uint8) for c in (1, 3, 3, 1)))
    light = surface.light * surface.light.new_tensor(SH_CONSTANTS)[:, None]
    shared = (surface.faces, surface.uv_corners, surface.albedo.movedim(0, -1), light)
    faces, uv_corners, texture, light = (np.ascontiguousarray(value.numpy()) for value in shared)
    kernel = _kernel()
    for frame in range(frames):
        per_frame = (fragments.triangle, fragments.barycentric, surface.normals, surface.nearness)
        inputs = [np.ascontiguousarray(value[frame].numpy()) for value in per_frame]
        outputs = [value[frame].numpy() for value in out]

        def work(first: int, last: int, inputs=inputs, outputs=outputs) -> None:
            kernel(first, last, *inputs, faces, uv_corners, texture, light, *outputs)

        run_in_bands(work, height)
    return out


def _test_input() -> tuple[Fragments, Surface]:
    screen, faces = scene()
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(screen.shape, generator=generator), dim=-1)
    texture = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4, generator=generator), size=(16, 16))[0]
    surface = Surface(
        faces=faces,
        normals=normals,
        nearness=nearness(screen[..., 2]),
        uv_corners=torch.rand(len(faces), 3, 2, generator=generator),
        albedo=texture,
        light=torch.randn(9, 3, generator=generator),
    )
    return rasterize_reference(screen, faces, SIZE), surface


def _shade_rows(
    first_row,
    last_row,
    triangle,  # (H, W)
    barycentric,  # (H, W, 3)
    normals,  # (V, 3)
    nearness,  # (V,)
    faces,  # (T, 3)
    uv_corners,  # (T, 3, 2)
    texture,  # (S, S, 3)
    light,  # (9, 3), times SH_CONSTANTS
    depth_out,  # (1, H, W) uint8
    normal_out,  # (3, H, W) uint8
    render_out,  # (3, H, W) uint8
    flags_out,  # (1, H, W) uint8
):
    width = triangle.shape[1]
    rows, columns = texture.shape[0], texture.shape[1]
    zero, one, half, full = np.float32(0), np.float32(1), np.float32(0.5), np.float32(255)
    for row in range(first_row, last_row):
        for column in range(width):
            number = triangle[row, column]
            if number < 0:
                depth_out[0, row, column] = 0
                flags_out[0, row, column] = 0
                for c in range(3):
                    normal_out[c, row, column] = 0
                    render_out[c, row, column] = 0
                continue
            i0, i1, i2 = faces[number, 0], faces[number, 1], faces[number, 2]
            b0 = barycentric[row, column, 0]
            b1 = barycentric[row, column, 1]
            b2 = barycentric[row, column, 2]
            x = b0 * normals[i0, 0] + b1 * normals[i1, 0] + b2 * normals[i2, 0]
            y = b0 * normals[i0, 1] + b1 * normals[i1, 1] + b2 * normals[i2, 1]
            z = b0 * normals[i0, 2] + b1 * normals[i1, 2] + b2 * normals[i2, 2]
            near = b0 * nearness[i0] + b1 * nearness[i1] + b2 * nearness[i2]
            depth_out[0, row, column] = np.uint8(min(max(near * full + half, zero), full))
            normal_out[0, row, column] = np.uint8(min(abs(x) * full + half, full))
            normal_out[1, row, column] = np.uint8(min(abs(y) * full + half, full))
            normal_out[2, row, column] = np.uint8(min(abs(z) * full + half, full))
            flags_out[0, row, column] = 1 + 2 * (x < zero) + 4 * (y < zero) + 8 * (z < zero)

            u = b0 * uv_corners[number, 0, 0] + b1 * uv_corners[number, 1, 0] + b2 * uv_corners[number, 2, 0]
            v = b0 * uv_corners[number, 0, 1] + b1 * uv_corners[number, 1, 1] + b2 * uv_corners[number, 2, 1]
            # Texel centres; clamped to one texel outside, where a sample is 0 either way.
            s = min(max(u * columns - half, -one), np.float32(columns))
            t = min(max((one - v) * rows - half, -one), np.float32(rows))
            s0, t0 = int(np.floor(s)), int(np.floor(t))
            fs, ft = s - np.float32(s0), t - np.float32(t0)
            red, green, blue = zero, zero, zero
            for dt in range(2):
                for ds in range(2):
                    ty, tx = t0 + dt, s0 + ds
                    if 0 <= ty < rows and 0 <= tx < columns:
                        weight = (ft if dt else one - ft) * (fs if ds else one - fs)
                        red += weight * texture[ty, tx, 0]
                        green += weight * texture[ty, tx, 1]
                        blue += weight * texture[ty, tx, 2]
            xy, xz, yz, xx_yy, zz = x * y, x * z, y * z, x * x - y * y, np.float32(3) * z * z - one
            for c in range(3):
                lit = light[0, c] + light[1, c] * x + light[2, c] * y + light[3, c] * z + light[4, c] * xy
                lit += light[5, c] * xz + light[6, c] * yz + light[7, c] * xx_yy + light[8, c] * zz
                value = (red if c == 0 else green if c == 1 else blue) * lit
                render_out[c, row, column] = np.uint8(min(max(value * full + half, zero), full))
