"""The warp preview on real photos and clips that other packages ship.

    python scripts/host.py run -m benchmarks.warp [--frames 20] [--sheet FOLDER]

For each pair: the landmark network's error on the warped frames against the landmarks that were asked for,
in percent of the outer-eye distance (and that of the still photo), milliseconds of CPU a frame on one
thread, where the pixels came from, and flicker: the mean second difference of colour over three neighbouring
frames where pixels were repaired, over that of pixels taken from the photo (1: as calm as the photo).
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from magicportrait_core.alignment import StructuredFaceAlignment, align_track
from magicportrait_core.head.assets import load_head
from magicportrait_core.tracking.landmarker import load_landmarker
from magicportrait_core.tracking.tracker import track_face, track_portrait
from magicportrait_core.warp import SOURCES, prepare_warp, source_map_picture, source_shares, warp_frame
from magicportrait_core.warp.motion import move_head, within_limits

PORTRAITS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
CLIPS = {
    "smile": ("comfyui_workflow_templates_media_video", "templates/video_wan2_2_14B_t2v-1.webp"),
    "talk": ("comfyui_workflow_templates_media_video", "templates/video_ltx2_3_id_lora-1.webp"),
    "turn": ("comfyui_workflow_templates_media_image", "templates/wan2.1_fun_control-2.webp"),
}
PAIRS = (
    ("astronaut", "smile", "relative"),
    ("astronaut", "smile", "absolute"),
    ("astronaut", "talk", "relative"),
    ("hopper", "talk", "relative"),
    ("hopper", "talk", "absolute"),
    ("hopper", "turn", "relative"),
)
SIZE = 512
EYES = 0.2  # outer-eye distance, share of the crop's width
CLIP_FRAMES = 60
REPAIRED = tuple(SOURCES.index(name) for name in ("mirrored", "stretched", "filled", "mouth"))


def packaged(package: str, path: str) -> Path:
    """A file inside an installed package."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise SystemExit(f"this benchmark needs the package {package!r} for its pictures: pip install it")
    return Path(spec.submodule_search_locations[0]) / path


def to_tensor(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1


def to_picture(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(((image.clamp(-1, 1) + 1) * 127.5 + 0.5).byte().permute(1, 2, 0).numpy())


def portrait_crop(path: Path, landmarker) -> torch.Tensor:
    """A square around the face, eyes a fifth of its width apart."""
    picture = Image.open(path).convert("RGB")
    marks = landmarker.observe(to_tensor(picture))[0].points
    eyes = float((marks[33, :2] - marks[263, :2]).norm())
    side = min(eyes / EYES, *picture.size)
    x, y = marks[[33, 263], :2].mean(0).tolist()
    left = min(max(x - side / 2, 0), picture.width - side)
    top = min(max(y - 0.47 * side, 0), picture.height - side)
    return to_tensor(picture.resize((SIZE, SIZE), Image.LANCZOS, box=(left, top, left + side, top + side)))


def clip_frames(path: Path):
    with Image.open(path) as animation:
        for index in range(min(animation.n_frames, CLIP_FRAMES)):
            animation.seek(index)
            yield to_tensor(animation)


def landmark_error(head, landmarker, source, target, image) -> float:
    """Percent of the outer-eye distance; NaN when no face is found."""
    marks = move_head(source, within_limits(source, target)[0]).marks[:, :2] * source.scale
    faces = landmarker.observe(image)
    if not faces:
        return float("nan")
    used = head.landmarks.matched & (head.landmarks.spread < 0.006)
    used[468:] = False
    error = (faces[0].points[:, :2] - marks)[used].norm(dim=-1).mean()
    return 100 * float(error / (marks[33] - marks[263]).norm())


def flicker(frames) -> dict[str, float]:
    """Second difference of colour in repaired regions, relative to pixels of the photo."""
    sums = torch.zeros(len(SOURCES))
    counts = torch.zeros(len(SOURCES))
    for before, here, after in zip(frames, frames[1:], frames[2:], strict=False):
        change = (before.image - 2 * here.image + after.image).abs().mean(0)
        same = (before.source_map == here.source_map) & (here.source_map == after.source_map)
        for index in range(len(SOURCES)):
            chosen = same & (here.source_map == index)
            sums[index] += change[chosen].sum()
            counts[index] += chosen.sum()
    calm = sums[0] / counts[0]
    return {SOURCES[i]: round(float(sums[i] / counts[i] / calm), 2) for i in REPAIRED if counts[i] > 200}


def run(name, clip, mode, head, landmarker, tracks, frames, sheet):
    image, portrait = tracks[name]
    aligned = align_track(portrait, tracks[clip], StructuredFaceAlignment(mode=mode))
    source = prepare_warp(head, image, portrait)
    still = warp_frame(source, portrait).image
    chosen = np.unique(np.linspace(0, aligned.num_frames - 1, frames).astype(int))
    errors, without, milliseconds, shares, held = [], [], [], [], []
    for index in chosen:
        target = aligned[int(index)]
        begin = time.process_time()
        frame = warp_frame(source, target)
        milliseconds.append(1e3 * (time.process_time() - begin))
        errors.append(landmark_error(head, landmarker, source, target, frame.image))
        without.append(landmark_error(head, landmarker, source, target, image))
        shares.append(list(source_shares(frame.source_map).values()))
        held.append(frame.held)
    row = [warp_frame(source, aligned[i]) for i in range(min(aligned.num_frames, 24))]
    lost = int(np.isnan(errors).sum())
    share = " ".join(f"{s} {100 * v:.1f}" for s, v in zip(SOURCES, np.mean(shares, 0), strict=True))
    print(
        f"{name} <- {clip}, {mode}: error {np.nanmean(errors):.2f} % (max {np.nanmax(errors):.2f}, "
        f"lost {lost}, still photo {np.nanmean(without):.1f}), {np.median(milliseconds):.0f} ms, "
        f"held up to {max(held):.1f} deg\n    pixels %: {share}\n"
        f"    flicker: {flicker(row)}; still differs by {(still - image).abs().max():.1e}",
        flush=True,
    )
    if sheet:
        save_sheet(Path(sheet) / f"{name}_{clip}_{mode}.png", source, aligned, chosen)


def save_sheet(path: Path, source, aligned, chosen) -> None:
    warped = [warp_frame(source, aligned[int(i)]) for i in chosen[:: max(1, len(chosen) // 6)]][:6]
    maps = [source_map_picture(f.source_map) for f in warped]
    rows = [torch.cat([f.image for f in warped], 2), torch.cat(maps, 2)]
    to_picture(torch.cat(rows, 1)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20, help="frames measured of each clip")
    parser.add_argument("--sheet", help="folder for contact sheets")
    options = parser.parse_args()
    torch.set_num_threads(1)
    head, landmarker = load_head("open_head"), load_landmarker("cpu")
    tracks = {}
    for name, place in PORTRAITS.items():
        image = portrait_crop(packaged(*place), landmarker)
        tracks[name] = (image, track_portrait(image, landmarker, head))
    for name, place in CLIPS.items():
        tracks[name] = track_face(clip_frames(packaged(*place)), landmarker, head, fps=25.0)
    for pair in PAIRS:
        run(*pair, head, landmarker, tracks, options.frames, options.sheet)


if __name__ == "__main__":
    main()
