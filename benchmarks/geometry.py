"""From the driving video to guidance maps with DECA and SMIRK, against the released order of work.

    python scripts/host.py run -m benchmarks.geometry [clip.mp4] [--frames 24] [--dtype bfloat16]

Ours reads the clip once: decode, follow the face, crop, encode in batches, align, decode FLAME, render. The
baseline does for every driving frame what the released scripts do, in their order: read the portrait's file
and the frame's again, find the face in both, resize and warp both (scikit-image), encode both with DECA, read
and search the frame again for SMIRK, run its three backbones, decode texture and FLAME, rasterise for depth,
rasterise again for normals and render. Its rasteriser draws one triangle after the other (the released one,
pytorch3d on a CPU, takes longer still); the last line gives it ours. Left out in the baseline's favour: work
whose networks are not here (two detail encoders a frame, a 68-point detector: it gets our landmark network),
two ignored decodes, extracting the frames and saving the maps. Weights are random at true sizes
(tests/helpers/released_files.py). Figures are milliseconds a frame of processor time, all threads together,
so that a busy machine does not spoil them; wall-clock time on other devices.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from released_files import SMALL_FEATURES, SMALL_STAGES, write_released_files  # noqa: E402
from skimage import data  # noqa: E402
from skimage.transform import SimilarityTransform, resize, warp  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from benchmarks.tracking import CLIPS, package_file  # noqa: E402
from magicportrait_core.alignment import StructuredFaceAlignment, align_track  # noqa: E402
from magicportrait_core.guidance import render_guidance  # noqa: E402
from magicportrait_core.head.flame_files import read_flame  # noqa: E402
from magicportrait_core.head.model import HeadModel  # noqa: E402
from magicportrait_core.head.skinning import vertex_normals  # noqa: E402
from magicportrait_core.head_appearance import released_appearance  # noqa: E402
from magicportrait_core.media.image import from_levels, save_image  # noqa: E402
from magicportrait_core.media.video import open_video, write_video  # noqa: E402
from magicportrait_core.rendering import rasterizer_numba  # noqa: E402
from magicportrait_core.rendering.rasterizer import rasterize  # noqa: E402
from magicportrait_core.rendering.shading import Surface, level, nearness, shade, to_map  # noqa: E402
from magicportrait_core.tracking.deca import DecaEncoder, deca_codes  # noqa: E402
from magicportrait_core.tracking.landmarker import Landmarker, load_landmarker  # noqa: E402
from magicportrait_core.tracking.landmarks_68_of_478 import landmarks_68  # noqa: E402
from magicportrait_core.tracking.mobilenet_v3 import MobileNetV3  # noqa: E402
from magicportrait_core.tracking.released_crops import box_of, portrait_crop  # noqa: E402
from magicportrait_core.tracking.released_files import load_released_tracker  # noqa: E402
from magicportrait_core.tracking.released_tracker import track_portrait_released, track_released  # noqa: E402
from magicportrait_core.tracking.smirk import SmirkExpressionEncoder, smirk_codes  # noqa: E402
from magicportrait_core.tracking.weak_perspective import weak_perspective_camera  # noqa: E402

SIZE = 512
RELEASED = StructuredFaceAlignment(mode="absolute")
BASELINE_FRAMES = 6  # of the clip; each costs the same
OUR_RASTERIZER = "(our rasteriser, twice)"  # timed beside the baseline's own
PROMISED = 5.0  # times faster than the baseline, on a CPU


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", nargs="?", type=Path, help="a video of one face; default: of the templates")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of ours"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        clip = prepare(Path(folder), options.clip, options.frames)
        ours, parts = measure_ours(clip, options.device, getattr(torch, options.dtype))
        baseline = None
        if options.device == "cpu":
            baseline = measure_baseline(clip)
    report(options, clip, ours, parts, baseline)
    return 0 if baseline is None or in_all(baseline) / ours >= PROMISED else 1


@dataclass(frozen=True)
class Clip:
    files: dict[str, Path]  # for load_released_tracker
    portrait: Path
    video: Path
    frames: list[Path]  # the same as pictures


def prepare(folder: Path, source: Path | None, count: int) -> Clip:
    """The clip cut to 512x512 as the released system does it, as a video and as pictures."""
    files = write_released_files(folder / "files").arguments()
    portrait = folder / "portrait.png"
    Image.fromarray(data.astronaut()).save(portrait)
    source = source or next((path for name in CLIPS if (path := package_file(name))), None)
    frames, paths = [], []
    landmarker, box = load_landmarker(), None
    for number, frame in enumerate(clip_frames(source)):
        if number == count:
            break
        box = box or landmarker.observe(frame)[0].box
        frames.append(portrait_crop(frame, box))
        paths.append(folder / f"{number:05}.png")
        save_image(frames[-1], paths[-1])
    write_video(folder / "driving.mp4", frames, 25)
    return Clip(files, portrait, folder / "driving.mp4", paths)


def clip_frames(source: Path | None) -> Iterator[Tensor]:
    if source is not None:
        yield from open_video(source)
        return
    picture = from_levels(torch.from_numpy(data.astronaut()))
    for number in range(1000):
        yield torch.roll(picture, number % 20, 2)


class Clock:
    """Adds up the time of named parts."""

    def __init__(self, device: str = "cpu"):
        self.now = time.process_time if device == "cpu" else time.perf_counter
        self.device, self.parts = device, {}

    def __call__(self, name: str, work: Callable):
        start = self.now()
        result = work()
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.parts[name] = self.parts.get(name, 0.0) + self.now() - start
        return result


def measure_ours(clip: Clip, device: str, dtype: torch.dtype) -> tuple[float, dict[str, float]]:
    """Milliseconds a frame in all, and of each part."""
    tracker = load_released_tracker(**clip.files, device=device, dtype=dtype)
    portrait_picture = from_levels(torch.from_numpy(data.astronaut()))

    def run(clock: Clock, limit: int | None = None) -> None:
        portrait = clock("portrait", lambda: track_portrait_released(portrait_picture, tracker).track)
        with open_video(clip.video, max_frames=limit) as video:
            driving = clock("read, follow, encode", lambda: track_released(video, tracker, 25.0).track)
        aligned = clock("align", lambda: align_track(portrait, driving, RELEASED))
        look = clock("texture", lambda: released_appearance(tracker.texture, portrait))
        clock("decode FLAME, render", lambda: render_guidance(tracker.head, aligned, look))

    run(Clock(device), limit=4)  # kernels are set up
    clock = Clock(device)
    run(clock)
    parts = {name: 1e3 * value / len(clip.frames) for name, value in clock.parts.items()}
    return in_all(parts), parts


@dataclass(frozen=True)
class Baseline:
    head: HeadModel
    landmarker: Landmarker
    deca: DecaEncoder
    smirk: SmirkExpressionEncoder
    shape: nn.Module
    pose: nn.Module
    texture_mean: Tensor  # (512, 512, 3)
    texture_components: Tensor  # (512 * 512 * 3, 50)
    uv_corners: Tensor


def measure_baseline(clip: Clip) -> dict[str, float]:
    """Milliseconds a frame of each part of the released order of work."""
    head = read_flame(clip.files["flame"], clip.files["template_obj"])
    with np.load(clip.files["texture"]) as file:
        mean, components = (torch.from_numpy(file[name].astype(np.float32)) for name in ("mean", "tex_dir"))
    encoders = [
        DecaEncoder(),
        SmirkExpressionEncoder(),
        MobileNetV3(),
        MobileNetV3(SMALL_STAGES, SMALL_FEATURES),
    ]
    weights = torch.load(clip.files["deca"], weights_only=True)["E_flame"]
    encoders[0].load_state_dict(weights)
    said = torch.load(clip.files["smirk"], weights_only=True)
    prefix = "smirk_encoder.expression_encoder."
    encoders[1].load_state_dict({k[len(prefix) :]: v for k, v in said.items() if k.startswith(prefix)})
    deca, smirk, shape, pose = (encoder.eval() for encoder in encoders)
    baseline = Baseline(
        head,
        load_landmarker(),
        deca,
        smirk,
        shape,
        pose,
        mean,
        components.reshape(-1, 50),
        head.uvs[head.faces_uv],
    )
    one_frame(baseline, clip.portrait, clip.frames[0], Clock())
    clock = Clock()
    frames = clip.frames[:BASELINE_FRAMES]
    for frame in frames:
        one_frame(baseline, clip.portrait, frame, clock)
    return {name: 1e3 * value / len(frames) for name, value in clock.parts.items()}


def one_frame(b: Baseline, portrait: Path, driver: Path, clock: Clock) -> tuple[Tensor, Tensor, Tensor]:
    """The maps of one driving frame."""
    codes, transforms = [], []
    for path in (portrait, driver):
        picture = clock("read files", lambda path=path: np.asarray(Image.open(path).convert("RGB")))
        small = clock("resize", lambda p=picture: (resize(p, (SIZE, SIZE)) * 255).astype(np.uint8))
        face = clock("find faces", lambda p=small: find(b.landmarker, p))
        crop, transform = clock("warp", lambda p=small, f=face: cut(p / 255.0, box_of(landmarks_68(f)), 1.43))
        codes.append(clock("DECA, twice", lambda c=crop: deca_codes(b.deca(c))))
        transforms.append(transform)
    picture = clock("read files", lambda: np.asarray(Image.open(driver).convert("RGB")))
    face = clock("find faces", lambda: find(b.landmarker, picture))
    crop, _ = clock("warp", lambda: cut(picture, box_of(face), 1.4, preserve_range=True))
    crop = (crop.byte() / 255.0).contiguous()
    said = clock(
        "SMIRK, three networks", lambda: (b.pose(crop), b.shape(crop), smirk_codes(b.smirk(crop)))[2]
    )
    source, driving = codes
    rotation = torch.zeros(1, 5, 3)
    rotation[:, 0], rotation[:, 2] = driving.rotation, said.jaw
    vertices = clock("decode FLAME", lambda: b.head.vertices(source.shape, said.expression, rotation))
    albedo = clock("texture", lambda: albedo_of(b, source.texture))
    camera = weak_perspective_camera(source.scale_shift, transforms[0][None], (SIZE, SIZE))
    screen = camera.project(vertices)
    faces = b.head.faces
    for name in ("depth", "normal and render"):
        fragments = clock(
            "rasterise, twice", lambda: rasterize(screen, faces, (SIZE, SIZE), False, backend="reference")
        )
        surface = Surface(
            faces,
            vertex_normals(vertices, faces),
            nearness(screen[..., 2]),
            b.uv_corners,
            albedo,
            source.light[0],
        )
        clock(OUR_RASTERIZER, lambda: rasterize(screen, faces, (SIZE, SIZE), False))
        if name != "depth":
            shaded = clock("shade", lambda f=fragments, s=surface: shade(f, s))
    shape = (1, SIZE, SIZE)
    return tuple(
        clock("shade", lambda v=v: to_map(level(v), shaded.pixel, shape))
        for v in (shaded.depth, shaded.normal, shaded.render)
    )


def find(landmarker: Landmarker, picture: np.ndarray) -> Tensor:  # (478, 3)
    return landmarker.observe(from_levels(torch.from_numpy(picture.copy())))[0].points


def cut(picture: np.ndarray, box, margin: float, **options) -> tuple[Tensor, Tensor]:
    left, top, right, bottom = box
    side = int(margin * (right - left + bottom - top) / 2)
    corner = ((left + right - side) / 2, (top + bottom - side) / 2)
    to_picture = SimilarityTransform(scale=side / 223, translation=corner)
    crop = warp(picture, to_picture, output_shape=(224, 224), **options)
    return torch.from_numpy(crop).float().permute(2, 0, 1)[None], torch.from_numpy(
        to_picture.params.T
    ).float()


def albedo_of(b: Baseline, code: Tensor) -> Tensor:  # (3, 256, 256)
    full = (b.texture_mean + (b.texture_components @ code[0]).reshape(b.texture_mean.shape)) / 255
    return full.permute(2, 0, 1)[[2, 1, 0], ::2, ::2]


def report(
    options, clip: Clip, ours: float, parts: dict[str, float], baseline: dict[str, float] | None
) -> None:
    kind = "CPU ms" if options.device == "cpu" else f"wall ms on {options.device}"
    print(f"{len(clip.frames)} frames of {SIZE}x{SIZE}, {options.threads} threads, torch {torch.__version__}")
    print(f"{kind} a frame; numba {'draws' if rasterizer_numba.works() else 'is not used'}")
    print("\nours")
    print_parts(parts)
    if baseline is None:
        return
    print("\nreleased order of work, frame by frame")
    print_parts(baseline)
    print(f"\n{in_all(baseline) / ours:.1f} times as fast (promised: {PROMISED:g})")
    lent = in_all(baseline) - baseline["rasterise, twice"] + baseline[OUR_RASTERIZER]
    print(f"{lent / ours:.1f} times as fast as the same with our rasteriser")


def in_all(parts: dict[str, float]) -> float:
    return sum(value for name, value in parts.items() if name != OUR_RASTERIZER)


def print_parts(parts: dict[str, float]) -> None:
    for name, value in (parts | {"in all": in_all(parts)}).items():
        print(f"  {name:24}{value:8.1f}")


if __name__ == "__main__":
    sys.exit(main())
