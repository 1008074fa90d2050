"""Converts a FLAME file to our head format, so that it loads fast, needs no pickle and carries its landmarks.

    python -m scripts.convert_head generic_model.pkl flame2020.safetensors [--template head_template.obj]

FLAME's licence stays: the converted file may not be passed on where the original may not.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path

from magicportrait_core.head.assets import save_head
from magicportrait_core.head.files import HeadFileError
from magicportrait_core.head.flame_files import read_flame
from magicportrait_core.tracking.calibration import CalibrationOptions, calibrate, mean_spread


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("flame", type=Path, help="generic_model.pkl, flame2023.pkl, flame2023_Open.pkl")
    options.add_argument("output", type=Path, help="the .safetensors file to write")
    options.add_argument("--template", type=Path, help="head_template.obj, for FLAME's texture coordinates")
    options.add_argument(
        "--people", type=int, default=40, help="identities rendered to find the landmarks; 0: none"
    )
    arguments = options.parse_args()
    try:
        head = read_flame(arguments.flame, arguments.template)
    except HeadFileError as error:
        raise SystemExit(str(error)) from None
    print(f"{arguments.flame.name}: {head.name}, {head.num_vertices} vertices, licence: {head.licence}")
    if arguments.people:
        try:
            landmarks = calibrate(head, CalibrationOptions(people=arguments.people))
        except ValueError as error:
            raise SystemExit(f"{error}; --people 0 converts without landmarks") from None
        head = replace(head, landmarks=landmarks)
        median, _ = mean_spread(landmarks)
        placed = int(landmarks.matched.sum())
        print(
            f"{placed} of {len(landmarks.triangles)} landmarks placed, spread {median * 1e3:.1f} mm (median)"
        )
    provenance = {
        "source": arguments.flame.name,
        "source_sha256": hashlib.sha256(arguments.flame.read_bytes()).hexdigest(),
        "made_by": "scripts/convert_head.py",
    }
    save_head(head, arguments.output, provenance)
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
