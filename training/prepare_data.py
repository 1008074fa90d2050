"""Videos of faces -> training clips.

    python -m training.prepare_data --videos FOLDER --output FOLDER
    python -m training.prepare_data --videos FOLDER --output FOLDER --for small --size 128

Every video of the folder is cut into shots; in each the largest face is followed, cropped by the box of its
first frame (a square 2.18 times as wide as the face), tracked and rendered. OUTPUT holds the clips in
shards, tracks/ with one FaceTrack a clip, report.html with pictures of what was kept and what was dropped and
why, and report.json. A run that was stopped goes on when the same command is given again; videos that are
done are not looked at again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from training.preparation.options import FOR_MODELS, Filters, PrepareOptions, claim_folder

USABLE, FAILED, SOME_FAILED, STOPPED = 0, 1, 3, 130
CODES = (
    "exit code: 0 every video could be used; 3 some could not (see the report); 1 nothing was kept, or an "
    "error; 2 wrong arguments; 130 stopped by Ctrl-C"
)


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        return run(given)
    except KeyboardInterrupt:
        print("\nstopped; give the same command again to go on", file=sys.stderr)
        return STOPPED
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED


def run(given: argparse.Namespace) -> int:
    """Find the videos, prepare those that are not done, write the report."""
    from magicportrait_core.devices import choose_device
    from training.preparation.videos import find_videos

    if given.workers < 1:
        raise ValueError(f"workers={given.workers}; expected 1 or more")
    options = options_of(given)
    choose_device(given.device)
    jobs = find_videos(given.videos, leave_out=given.output)
    if given.dry_run:
        print(f"{len(jobs)} videos -> {given.output}\n{options}")
        return USABLE
    from training.clip_store import ClipStore, merge_indices, verify
    from training.preparation.records import unfinished
    from training.preparation.report import write_report

    claim_folder(given.output, options)
    there = known_clips(given.output)
    todo = unfinished(given.output, jobs, there)
    if len(todo) < len(jobs):
        print(f"{len(jobs) - len(todo)} of {len(jobs)} videos are done already", flush=True)
    try:
        prepare(given, options, todo)
    except BaseException:
        with suppress(OSError):  # of a full disk enough is said
            merge_indices(given.output)
            write_report(given.output, jobs, options)
        raise
    merge_indices(given.output)
    records = write_report(given.output, jobs, options)
    kept = len(ClipStore(given.output)) if known_clips(given.output) else 0
    broken = [record for record in records if record.error]
    faults = verify(given.output, hashes=False) if kept else []
    for fault in faults:
        print(f"note: {fault}", file=sys.stderr)
    print(
        f"{kept} clips of {len(jobs)} videos, {len(broken)} videos could not be used: see "
        f"{given.output / 'report.html'}"
    )
    if not kept:
        raise ValueError(f"no clip was kept; {given.output / 'report.html'} says why")
    return SOME_FAILED if broken else USABLE


def prepare(given: argparse.Namespace, options: PrepareOptions, todo: Sequence) -> None:
    """Prepare videos, with a line for each and the time that is left."""
    if not todo:
        return
    from training.preparation.workers import Plan, prepare_all

    line = StatusLine()
    begun = time.monotonic()
    plan = Plan(given.output, options, given.device)
    try:
        for done, record in enumerate(prepare_all(plan, todo, given.workers, line.show), start=1):
            left = (time.monotonic() - begun) / done * (len(todo) - done)
            line.print(
                f"[{done}/{len(todo)}] {record.in_a_line()}" + (f"; {duration(left)} left" * (left > 0))
            )
    finally:
        line.clear()


def known_clips(folder: Path) -> set[str]:
    """Names of the clips that are there in full."""
    from training.clip_index import index_files, merge_indices, read_whole_index, whole_part

    if not index_files(folder):
        return set()
    merge_indices(folder)  # of a run that was killed
    return {clip.name for clip in whole_part(folder, read_whole_index(folder)).clips}


class StatusLine:
    """What is being done, in one line that is overwritten; nothing where the output is no terminal."""

    def __init__(self):
        self.shows = sys.stderr.isatty()

    def show(self, text: str) -> None:
        if self.shows:
            print(f"\r\033[K{text[:100]}", end="", file=sys.stderr, flush=True)

    def print(self, text: str) -> None:
        self.clear()
        print(text, flush=True)

    def clear(self) -> None:
        self.show("")


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def options_of(given: argparse.Namespace) -> PrepareOptions:
    maps = given.maps.split(",") if given.maps else FOR_MODELS[given.model][0]
    encoding = given.encoding or ("raw" if given.size <= 256 else "jpeg")
    licensed = {
        name: str(value) if value is not None else None
        for name, value in ((n, getattr(given, n)) for n in ("flame", "deca", "smirk", "texture", "vae"))
    }
    for name, value in licensed.items():
        if value is not None and not Path(value).exists():
            raise FileNotFoundError(f"there is no file {value}, given as --{name}; check the path")
    filters = Filters(
        given.min_face,
        given.min_sharpness,
        given.max_error,
        given.min_presence,
        given.min_motion,
        given.max_outside,
    )
    return PrepareOptions(
        size=given.size,
        maps=tuple(name.strip() for name in maps),
        clip_frames=given.clip_frames,
        min_frames=given.min_frames,
        max_clips=given.max_clips,
        fps=given.fps,
        encoding=encoding,
        filters=filters,
        **licensed,
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m training.prepare_data",
        description=__doc__,
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = top.add_argument
    add("--videos", type=Path, required=True, metavar="FOLDER", help="with videos, animated WebP or GIF")
    add("--output", type=Path, required=True, metavar="FOLDER", help="for the clips, new or begun earlier")
    what = top.add_mutually_exclusive_group().add_argument
    what("--for", dest="model", choices=tuple(FOR_MODELS), default="sd15", help="maps that a model reads")
    what("--maps", metavar="NAMES", help="or: " + "depth,normal,render,warp,sources,normal_left")
    add("--size", type=int, default=512, metavar="PIXELS", help="side of the stored pictures (512)")
    add("--clip-frames", type=int, default=48, metavar="N", help="longest clip (48); windows are drawn later")
    add("--min-frames", type=int, default=12, metavar="N", help="shortest clip (12)")
    add(
        "--max-clips",
        type=int,
        metavar="N",
        help="clips of one video, evenly spread over it; all if left out",
    )
    add("--fps", type=float, help="resample videos to this rate; their own if left out")
    help = "raw (exact, large), lossless, jpeg (photos as JPEG, maps exact); raw up to 256 pixels, else jpeg"
    add("--encoding", choices=("raw", "lossless", "jpeg"), help=help)
    add("--workers", type=int, default=1, metavar="N", help="processes (1); a video is done by one of them")
    add("--device", default="cpu", metavar="NAME", help="cpu (default), cuda, cuda:1")
    add("--dry-run", action="store_true", help="only say what would be done")
    _add_filters(top)
    group = top.add_argument_group("licensed files (optional)")
    for name, text in (
        ("flame", "generic_model.pkl of FLAME 2020: DECA and SMIRK track, as in the released system"),
        ("deca", "deca_model.tar"),
        ("smirk", "SMIRK_em1.pt"),
        ("texture", "FLAME_texture.npz, the skin of render maps; the video's own without it"),
        ("vae", "SD 1.5's VAE: its latents are stored too, which training then need not make"),
    ):
        group.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)
    return top


def _add_filters(top: argparse.ArgumentParser) -> None:
    usual = Filters()
    add = top.add_argument_group("filters").add_argument
    add("--min-face", type=float, metavar="PIXELS", help="across the face; half of what the crop shows")
    help = "variance of the Laplacian over the face's; what looks blurred at the stored size"
    add("--min-sharpness", type=float, metavar="RATIO", help=help)
    for name, metavar, text in (
        ("max_error", "PERCENT", "mean landmark error of the fitted head, of the distance of the eyes"),
        ("min_presence", "SHARE", "confidence of the landmark network in every frame"),
        ("min_motion", "WIDTHS", "motion of the landmarks over the clip, in face widths"),
        ("max_outside", "SHARE", "of the crop that may lie outside of the picture"),
    ):
        value = getattr(usual, name)
        add(
            f"--{name.replace('_', '-')}",
            type=float,
            default=value,
            metavar=metavar,
            help=f"{text} ({value:g})",
        )


if __name__ == "__main__":
    sys.exit(main())
