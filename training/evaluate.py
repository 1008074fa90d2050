"""Measures a model: how near its moving portraits come to the truth, always beside the flow warp.

python -m training.evaluate --videos FOLDER --model small --output FOLDER
python -m training.evaluate --store FOLDER --model FOLDER --output FOLDER
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """0: done; 1: an error, said in one sentence; 2: wrong arguments; 130: Ctrl-C."""
    given = parser().parse_args(arguments)
    try:
        return run_store(given)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
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
    add = top.add_argument
    add("--store", type=Path, required=True, metavar="FOLDER", help="training clips to measure on")
    add("--model", metavar="FOLDER", help="a trained model; none measures the baselines alone")
    add("--output", type=Path, metavar="FOLDER", help="table.csv and table.md go here")
    add("--steps", type=step_counts, default=(1, 4), metavar="N,N", help="denoising steps; 1,4")
    add("--limit", type=int, metavar="N", help="clips of a store, spread evenly over it; all")
    add("--seed", type=int, default=0, help="of the noise")
    add("--device", metavar="NAME", help="cpu, cuda, mps; the accelerator if there is one")
    return top


def run_store(given: argparse.Namespace) -> int:
    """A model on the clips of a store."""
    import torch

    from magicportrait_core.checkpoints.loading import load_model
    from magicportrait_core.devices import choose_device
    from magicportrait_core.models.config import SMALL
    from training.clip_store import ClipStore
    from training.evaluation.store import evaluate_store
    from training.evaluation.table import means, write_table

    device, store = choose_device(given.device), ClipStore(given.store)
    model = load_model(Path(given.model), torch.float32) if given.model else None
    if model is not None:
        for network in (model.appearance_net, model.denoising_unet, model.guidance_encoders):
            network.to(device)
    table = evaluate_store(
        model,
        store,
        given.steps,
        given.limit,
        config=SMALL,
        seed=given.seed,
        on_clip=lambda done, total: print(f"\r{done} of {total} clips", end="", file=sys.stderr, flush=True),
    )
    print(file=sys.stderr)
    if given.output:
        write_table(given.output, table)
    print(means(table))
    return 0


def step_counts(text: str) -> tuple[int, ...]:
    """Whole numbers from 1, separated by commas, for argparse."""
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = (0,)
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers from 1, such as 1,4")
    return counts


if __name__ == "__main__":
    sys.exit(main())
