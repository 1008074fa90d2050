"""Make training clips of the open head: random people, motions, lights and cameras, with exact labels.

    python -m training.synthesize_data --output data/pictures --clips 4000 --frames 4 --seed 1
    python -m training.synthesize_data --output data/motion --clips 800 --kind clips --frames 12 --seed 2
    python -m training.synthesize_data --output data/photos --clips 2000 --kind round-trip --seed 3

Clip k depends on the seed and k alone. Running the same command again makes what is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

FRAMES = {"single": 4, "clips": 12, "round-trip": 1}  # usual, by kind
BYTES_PER_PIXEL = 12  # truth, depth, normals, warp and labels of a frame


class UsageError(Exception):
    """Something the user asked for cannot be done; one sentence."""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    options.frames = FRAMES[options.kind] if options.frames is None else options.frames
    try:
        _check(options)
        write_clips(options)
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on", file=sys.stderr)
        return 130
    except (UsageError, ValueError, ImportError, OSError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    return 0


def write_clips(options: argparse.Namespace) -> None:
    """Add what is missing of the clips to the folder. What is done is kept when this is interrupted."""
    from training.clip_store import ClipWriter
    from training.interruption import Interruption
    from training.synthesis.clips import Recipe, Workshop, clip_name
    from training.synthesis.workers import clips_made

    recipe = Recipe(
        options.kind, options.frames, options.size, options.seed, options.photos, not options.no_photo_skins
    )
    writer = ClipWriter(Path(options.output), options.shard_mb * 2**20)
    _check_same_set(writer.clips, options)
    missing = [k for k in range(options.clips) if clip_name(recipe, k) not in writer.names]
    _check_space(Path(options.output), len(missing), options)
    if not missing:
        print(f"{options.output} has all {options.clips} clips")
        return
    workshop = Workshop.of(recipe)
    start = time.monotonic()
    with Interruption() as stop:
        try:
            for done, clip in enumerate(clips_made(workshop, missing, options.workers), 1):
                writer.add(clip)
                _say(options, len(missing), done, time.monotonic() - start)
                if stop.asked:
                    raise KeyboardInterrupt
        finally:
            writer.flush()
    print(f"\n{options.output} has {len(writer.clips)} clips")


def _say(options: argparse.Namespace, missing: int, done: int, seconds: float) -> None:
    if done % 10 and done != missing:
        return
    each = seconds / done
    print(
        f"\r{options.clips - missing + done}/{options.clips} clips, "
        f"{1e3 * each / options.frames:.0f} ms a frame, {each * (missing - done) / 60:.0f} minutes left  ",
        end="",
        flush=True,
    )


def _check(options: argparse.Namespace) -> None:
    for name, least in (("clips", 1), ("frames", 1), ("seed", 0), ("workers", 1), ("shard_mb", 1)):
        if getattr(options, name) < least:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} {getattr(options, name)}: expected {least} or more")
    if options.kind == "round-trip" and options.frames != 1:
        raise UsageError(f"--frames {options.frames}: a round trip has one target, the photo; expected 1")
    if options.photos is not None and not options.photos.is_dir():
        raise UsageError(f"--photos {options.photos} is not a folder; name one with portraits")
    if not 32 <= options.size <= 512 or options.size % 16:
        raise UsageError(f"--size {options.size}: expected a multiple of 16 from 32 to 512 pixels")
    folder = Path(options.output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "index.json").exists():
        raise UsageError(f"--output {folder} holds other files; name a new folder")


def _check_same_set(clips: list, options: argparse.Namespace) -> None:
    size = (options.size, options.size)
    for clip in clips:
        if tuple(clip.size) != size or clip.frames != options.frames:
            raise UsageError(
                f"--output {options.output} holds clips of {clip.frames} frames of {clip.size[1]}x"
                f"{clip.size[0]} pixels, asked for are {options.frames} of {options.size}x{options.size}; "
                "name a new folder"
            )


def _check_space(folder: Path, clips: int, options: argparse.Namespace) -> None:
    need = clips * (options.frames * BYTES_PER_PIXEL + 3) * options.size**2
    free = shutil.disk_usage(folder).free
    if need > free:
        raise UsageError(
            f"{clips} clips need {need / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB free; "
            "make room or ask for fewer --clips"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.synthesize_data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--output", required=True, metavar="FOLDER", help="new, or of the same command begun earlier")
    add("--clips", type=int, default=1000, help="people; each has a portrait and --frames targets")
    add(
        "--frames",
        type=int,
        help="targets of each person, or frames of each clip; usually 4, 12 or 1 by kind",
    )
    add("--size", type=int, default=128, help="pixels, height and width")
    add("--seed", type=int, default=0, help="another seed, other people")
    add(
        "--kind",
        choices=tuple(FRAMES),
        default="single",
        help="single: pictures of other poses and expressions; clips: smooth motion at 25 frames a second; "
        "round-trip: photos warped to another pose and back",
    )
    add(
        "--photos",
        type=Path,
        metavar="FOLDER",
        help="portraits for skins and round trips, instead of the two in the public domain that "
        "scikit-image and matplotlib ship",
    )
    add("--no-photo-skins", action="store_true", help="painted skins only; needs no landmark network")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes; the clips stay the same")
    add(
        "--shard-mb",
        type=int,
        default=64,
        help="size of the files; at most one of them is lost by a power cut",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
