"""Speed of the renderer on the open head, beside the slow twin (and pytorch3d where it is installed).

    python scripts/host.py run -m benchmarks.renderer [--size 512] [--threads 2] [--rounds 7]

Every figure is the median of repeated blocks: wall-clock and CPU milliseconds a frame. On a machine that does
other work too, the CPU column (all threads together) is the one to trust.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

from magicportrait_core.guidance import render_guidance
from magicportrait_core.head.assets import load_head
from magicportrait_core.head.model import HeadModel
from magicportrait_core.head_appearance import plain_appearance
from magicportrait_core.rendering import rasterizer_numba, rasterizer_pytorch3d
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.rendering.rasterizer import rasterize
from magicportrait_core.tracking.track import FaceTrack

BLOCK = 5  # frames timed together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    head = load_head("open_head")
    track = turning(head, options.size)
    screen = track.camera.project(head.vertices(track.shape, track.expression, track.pose))
    size = (options.size, options.size)
    covered = rasterize(screen[:1], head.faces, size, backend="torch").covered.float().mean().item()
    print(
        f"{platform.machine()} {platform.system()}, {options.threads} threads, torch {torch.__version__}; "
        f"{head.num_vertices} vertices, {head.num_faces} faces, {options.size}x{options.size}, "
        f"head on {covered:.0%} of the picture"
    )

    backends = ["torch"]
    if rasterizer_numba.works():
        backends.insert(0, "numba")
    slow = ["reference"]
    problem = rasterizer_pytorch3d._problem("cpu")
    if problem is None:
        slow.append("pytorch3d")
    else:
        print(f"pytorch3d: {problem}")

    print("\nfragments                 wall ms  CPU ms")
    times = {}
    for name in backends + slow:
        few = name in slow

        def draw(frame: int, name=name) -> None:
            rasterize(screen[frame : frame + 1], head.faces, size, backend=name)

        times[name] = measure(draw, track.num_frames, 1 if few else options.rounds, 1 if few else BLOCK)
        report(name, times[name])
    for name in backends:
        ratios = ", ".join(f"{times[s][0] / times[name][0]:.0f}x faster than {s}" for s in slow)
        print(f"  {name}: {ratios}")

    print("\nhead + fragments + maps   wall ms  CPU ms")
    appearance = plain_appearance(head)
    for name in backends:

        def render(frame: int, name=name) -> None:
            render_guidance(head, track[frame : frame + 1], appearance, backend=name)

        report(name, measure(render, track.num_frames, options.rounds, BLOCK))


def turning(head: HeadModel, size: int, frames: int = 20) -> FaceTrack:
    """A head that fills most of the picture's height, turning and speaking."""
    phase = torch.linspace(0, 2 * torch.pi, frames)
    pose = torch.zeros(frames, 5, 3)
    pose[:, 1, 1], pose[:, 1, 0] = 0.5 * phase.sin(), 0.2 * phase.cos()
    expression = torch.zeros(frames, head.num_expression)
    expression[:, head.expression_index("jawOpen")] = 0.5 - 0.5 * (3 * phase).cos()
    low, high = head.template.amin(0), head.template.amax(0)
    view = torch.eye(3, 4).repeat(frames, 1, 1)
    view[:, :, 3] = -(low + high) / 2 - torch.tensor([0.0, 0.0, 0.8])
    focal = 0.9 * size * 0.8 / (high - low)[1].item()
    return FaceTrack(
        head=head.name,
        shape=torch.zeros(1, head.num_shape),
        expression=expression,
        pose=pose,
        eyelids=torch.zeros(frames, 2),
        camera=Camera(view, torch.tensor([[focal, size / 2, size / 2]]).repeat(frames, 1), (size, size)),
        fps=25.0,
        confidence=torch.ones(frames),
        found=torch.ones(frames, dtype=torch.bool),
        error=torch.zeros(frames),
    )


def measure(work: Callable[[int], None], frames: int, rounds: int, block: int) -> tuple[float, float]:
    """Median milliseconds a frame over the rounds: wall-clock, CPU."""
    work(0)
    wall, cpu, frame = [], [], 0
    for _ in range(rounds):
        w, c = time.perf_counter(), time.process_time()
        for _ in range(block):
            work(frame % frames)
            frame += 1
        wall.append((time.perf_counter() - w) / block * 1e3)
        cpu.append((time.process_time() - c) / block * 1e3)
    return statistics.median(wall), statistics.median(cpu)


def report(name: str, times: tuple[float, float]) -> None:
    print(f"  {name:22}{times[0]:9.1f}{times[1]:8.1f}")


if __name__ == "__main__":
    main()
