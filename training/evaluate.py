"""Measures a model: how near its moving portraits come to the truth, always beside the flow warp.

    python -m training.evaluate --videos FOLDER --model small --output FOLDER
    python -m training.evaluate --videos FOLDER --portraits FOLDER --model FOLDER --output FOLDER
    python -m training.evaluate --store FOLDER --model FOLDER --output FOLDER

With --videos every clip drives its own most frontal frame (self), and every portrait (cross), through the
pipeline that users run. OUTPUT gets table.md, table.csv, and for every pair a video with all methods side by
side. What was measured before with the same settings is kept, so a stopped evaluation goes on.

With --store a model is measured on training clips at its working size: quick, for while it is trained.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from magicportrait_core.models.model import MagicPortraitModel
    from training.evaluation.pairs import Pair
    from training.evaluation.run import Method

MODES, BASELINES, LEARNED = ("self", "cross"), ("still", "warp"), ("lpips", "csim", "fid", "fvd")


def main(arguments: list[str] | None = None) -> int:
    """0: done; 1: an error, said in one sentence, or pairs that failed; 2: wrong arguments; 130: Ctrl-C."""
    top = parser()
    given = top.parse_args(arguments)
    if given.videos is not None and given.output is None:
        top.error("--videos needs --output FOLDER")
    try:
        return run_videos(given) if given.videos is not None else run_store(given)
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = top.add_argument_group("what is measured").add_mutually_exclusive_group(required=True)
    what.add_argument("--videos", type=Path, metavar="FOLDER", help="clips of one face each")
    what.add_argument("--store", type=Path, metavar="FOLDER", help="training clips")
    add = top.add_argument_group("the model").add_argument
    add(
        "--model", metavar="FOLDER", help="a trained model, or small: the built-in one; none: baselines alone"
    )
    add("--steps", type=step_counts, metavar="N,N", help="denoising steps; 1,4 for small models")
    add("--vae", type=Path, metavar="FILE", help="SD 1.5's VAE, of models that work on its latents")
    add("--clip", type=Path, metavar="FILE", help="CLIP-L, where the model has no text embedding stored")
    add("--seed", type=int, default=42, help="of the noise")
    add("--device", metavar="NAME", help="cpu, cuda, mps; the accelerator if there is one")
    add = top.add_argument_group("with --videos").add_argument
    add("--portraits", type=Path, metavar="FOLDER", help="pictures for cross-reenactment")
    add("--mode", type=names_of(MODES), help="self,cross; cross only where there are portraits")
    help = "lines of portrait,driver instead of every portrait with every clip"
    add("--pairs", type=Path, metavar="FILE", help=help)
    add("--frames", type=count, default=100, metavar="N", help="of a clip, at most; 100")
    add("--no-crop", action="store_true", help="whole pictures instead of the square around the face")
    add("--baselines", type=names_of(BASELINES), default=BASELINES, metavar="NAMES", help="still,warp")
    help = "of lpips,csim,fid,fvd: what else to measure where libraries and weights are here; all"
    add("--metrics", type=names_of(LEARNED), default=LEARNED, metavar="NAMES", help=help)
    add("--fvd-weights", type=Path, metavar="FILE", help="I3D as TorchScript")
    add = top.add_argument_group("with --store").add_argument
    add("--limit", type=count, metavar="N", help="clips, spread evenly over the store; all")
    top.add_argument("--output", type=Path, metavar="FOLDER", help="where the results go")
    return top


def run_videos(given: argparse.Namespace) -> int:
    """A model and the baselines on videos."""
    from training.evaluation.footage import Tools
    from training.evaluation.learned import LearnedMetrics
    from training.evaluation.pairs import find_pairs
    from training.evaluation.run import Baseline, Evaluation
    from training.evaluation.table import means, verdicts, write_table

    modes = given.mode or (MODES if given.portraits or given.pairs else MODES[:1])
    pairs = find_pairs(given.videos, given.portraits, modes, given.pairs)
    device, methods = device_of(given), [Baseline(name) for name in given.baselines]
    methods += network_methods(given, device)
    learned = LearnedMetrics.load(given.metrics, device, given.fvd_weights)
    given.output.mkdir(parents=True, exist_ok=True)
    evaluation = Evaluation(
        given.output, methods, Tools.load(), learned, given.frames, crop=not given.no_crop
    )
    progress = Progress()
    table, failed = evaluation.run(pairs, progress)
    if len(failed) == len(pairs):
        raise ValueError(f"no pair could be measured; the first: {failed[0]}")
    write_table(given.output, table)
    print("\n".join([means(table), *verdicts(table)]))
    for note in table.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{given.output / 'table.md'}: {len(pairs) - len(failed)} of {len(pairs)} pairs", file=sys.stderr)
    return 1 if failed else 0


def run_store(given: argparse.Namespace) -> int:
    """A model on the clips of a store."""
    from magicportrait_core.models.config import SMALL
    from training.clip_store import ClipStore
    from training.evaluation.network import SMALL_STEPS
    from training.evaluation.store import evaluate_store
    from training.evaluation.table import means, verdicts, write_table

    device, store = device_of(given), ClipStore(given.store)
    model = open_on(given.model, device) if given.model else None
    progress = Progress()
    table = evaluate_store(
        model,
        store,
        given.steps or SMALL_STEPS,
        given.limit,
        config=SMALL,
        seed=given.seed,
        on_clip=lambda done, total: progress.line(f"{done} of {total} clips", done == total),
    )
    if given.output:
        write_table(given.output, table)
    print("\n".join([means(table), *verdicts(table)]))
    return 0


def device_of(given: argparse.Namespace) -> torch.device:
    from magicportrait_core.devices import choose_device

    return choose_device(given.device)


def open_on(name: str, device: torch.device) -> MagicPortraitModel:
    """A model in single precision, all of it on a device."""
    import torch

    from training.evaluation.network import open_model

    model = open_model(name, torch.float32)
    for network in (model.appearance_net, model.denoising_unet, model.guidance_encoders):
        network.to(device)
    return model


def network_methods(given: argparse.Namespace, device: torch.device) -> list[Method]:
    """The model with every number of steps; none without a model."""
    if not given.model:
        return []
    from magicportrait_core.autoencoder import load_vae
    from magicportrait_core.command_line import dtype_of, text_embedding
    from training.evaluation.network import NetworkMethod, open_model, usual_steps

    model = open_model(given.model, dtype_of(None, device))
    vae = load_vae(given.vae) if given.vae else None
    text = text_embedding(None, given.clip)
    return [
        NetworkMethod(model, steps, given.seed, vae, text, device)
        for steps in given.steps or usual_steps(model)
    ]


class Progress:
    """A line for every pair; on a terminal also what is done at the moment."""

    def __init__(self):
        self.live, self.begun, self.pair = sys.stderr.isatty(), time.monotonic(), None

    def __call__(self, done: int, total: int, pair: Pair, what: str, finished: bool) -> None:
        if pair is not self.pair:
            self.pair, self.begun = pair, time.monotonic()
        seconds = f" ({time.monotonic() - self.begun:.0f} s)" if finished else ""
        self.line(f"[{done + 1}/{total}] {pair.name}: {what}{seconds}", finished)

    def line(self, text: str, finished: bool) -> None:
        """Lines that are not finished are replaced by the next."""
        if self.live:
            print(f"\r{text:<100}", end="\n" if finished else "", file=sys.stderr, flush=True)
        elif finished:
            print(text, file=sys.stderr, flush=True)


def step_counts(text: str) -> tuple[int, ...]:
    """Whole numbers from 1, separated by commas, for argparse."""
    return tuple(count(part) for part in text.split(","))


def count(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def names_of(known: tuple[str, ...]):
    """Some of the known names, separated by commas, for argparse; an empty text is none."""

    def read(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(known)}")
        return tuple(name for name in known if name in names)

    return read


if __name__ == "__main__":
    sys.exit(main())
