"""Finds the 478 landmarks on a head file and writes them into it, with our landmarker and rasteriser.

    python -m scripts.calibrate_landmarks [head.safetensors] [--people 40]

Without a file it calibrates the built-in open head.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open

from magicportrait_core.head.assets import ASSETS, OPEN_HEAD, head_provenance, read_head, save_head
from magicportrait_core.tracking.calibration import CalibrationOptions, calibrate, mean_spread


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("head", type=Path, nargs="?", default=ASSETS / f"{OPEN_HEAD}.safetensors")
    options.add_argument("--people", type=int, default=40, help="random identities, five views each")
    arguments = options.parse_args()
    torch.set_num_threads(1)  # sums in one order: the same landmarks on any number of cores
    head = read_head(arguments.head)
    landmarks = calibrate(head, CalibrationOptions(people=arguments.people), on_step=_report)
    with safe_open(arguments.head, framework="pt") as file:
        half = file.get_slice("shape_basis").get_dtype() == "F16"
    save_head(replace(head, landmarks=landmarks), arguments.head, head_provenance(arguments.head), half=half)
    median, high = mean_spread(landmarks)
    print(
        f"\n{arguments.head.name}: {int(landmarks.matched.sum())} of {len(landmarks.triangles)} landmarks "
        f"placed, spread {median * 1e3:.1f} mm (median), {high * 1e3:.1f} mm (95 %)"
    )


def _report(done: int, total: int) -> None:
    print(f"\r{done}/{total} renders", end="", flush=True)


if __name__ == "__main__":
    main()
