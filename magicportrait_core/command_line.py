"""Portrait reenactment without ComfyUI.

    python -m magicportrait_core reenact --portrait me.jpg --driving her.mp4 --output out.mp4

moves the photo itself, without networks. --model small repairs that by the small model that is built in. The
released one:

    python -m magicportrait_core reenact --portrait me.jpg --driving her.mp4 --output out.mp4 \\
        --model FOLDER --vae FILE --clip clip_l.safetensors

A render that was stopped goes on when the same command is run again.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .built_in import BUILT_IN, DEFAULT, PREVIEW, built_in_model
from .packages import check_diffusers

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .media.video import VideoReader
    from .pipeline import Reenactment, ReenactOptions
    from .progress_bars import ProgressBars

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
OF_NETWORKS = (  # options of reenact that say nothing to the preview
    *("vae", "clip", "text", "size", "steps", "guidance_scale", "guidance_strength", "map", "seed", "plan"),
    *("overlap", "window_frames", "coupling", "round_tokens", "dtype", "windows_per_batch", "save_every"),
    "anew",
)
VIDEO_FILES = (".mp4", ".mov", ".mkv")


def main(arguments: list[str] | None = None) -> int:
    """Runs a command. 0: done; 1: an error, said in one sentence; 2: wrong arguments; 130: Ctrl-C."""
    options = parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        if not is_preview(options.model):
            check_diffusers()
        return options.run(options)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        return _failed(str(error))
    except (RuntimeError, MemoryError) as error:
        from .diffusion.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        reason = (str(error) or "out of memory").splitlines()[0].rstrip(".")
        return _failed(f"{reason}; choose a smaller --size or --window-frames, or --dtype fp16")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m magicportrait_core",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_reenact(commands.add_parser("reenact", help="a portrait and a driving video -> a video"))
    _add_convert(commands.add_parser("convert", help="released files -> one safetensors file per network"))
    _add_files(commands.add_parser("files", help="which files of a model are there, where to get the rest"))
    return top


def run_reenact(given: argparse.Namespace) -> int:
    """The reenact command: checks what is cheap to check, loads, renders, writes."""
    from .devices import choose_device
    from .head.assets import load_head
    from .media.image import load_image
    from .media.video import write_video
    from .pipeline import preview
    from .progress_bars import ProgressBars

    begun = time.monotonic()
    check_output(given.output)
    device = choose_device(given.device)
    if is_preview(given.model):
        check_preview(given)
    portrait, driving, head = load_image(given.portrait), open_driving(given), load_head(given.head)
    alignment, options, bars = alignment_of(given), options_of(given), ProgressBars()
    render = preview if is_preview(given.model) else with_networks(given, options, device, bars)
    try:
        result = render(
            portrait,
            driving,
            options=options,
            head=head,
            alignment=alignment,
            on_progress=bars,
            on_warning=bars.note,
        )
        sound = None if given.no_sound else given.driving
        count = write_video(given.output, result.frames, result.fps, sound, given.start)
    except KeyboardInterrupt:
        bars.close()
        kept = options.state_file.is_file()
        print("\nstopped" + "; run the same command again to go on" * kept, file=sys.stderr)
        return 130
    finally:
        bars.close()
        for path in (options.features_file, options.warp_file):
            path.unlink(missing_ok=True)
    options.state_file.unlink(missing_ok=True)
    print(f"{given.output}: {count} frames, {result.fps:g} fps, made in {time.monotonic() - begun:.0f} s")
    return 0


def with_networks(
    given: argparse.Namespace, options: ReenactOptions, device: torch.device, bars: ProgressBars
) -> Callable[..., Reenactment]:
    """`pipeline.reenact` with the networks of a command, loaded."""
    from .autoencoder import load_vae
    from .checkpoints.loading import load_model
    from .pipeline import reenact

    text, folder = text_embedding(given.text, given.clip), model_folder(given.model)
    vae = load_vae(given.vae) if given.vae else None
    model = load_model(
        folder, dtype_of(given.dtype, device), on_step=lambda done, total: bars("load", done, total)
    )
    if text is None and model.text is None:
        raise ValueError(f"{folder.name} holds no text embedding; give --clip clip_l.safetensors")
    if given.anew:
        options.state_file.unlink(missing_ok=True)
    return partial(reenact, model=model, vae=vae, text=text, device=device)


def run_convert(given: argparse.Namespace) -> int:
    """The convert command."""
    import torch

    from .checkpoints.converting import convert
    from .progress_bars import ProgressBars

    dtype = getattr(torch, DTYPES[given.dtype]) if given.dtype else None
    text, bars = text_embedding(given.text, given.clip), ProgressBars()
    try:
        written = convert(
            model_folder(given.model),
            given.output,
            dtype,
            text,
            overwrite=given.overwrite,
            on_step=lambda done, total: bars("convert", done, total),
        )
    finally:
        bars.close()
    print("\n".join(map(str, written)))
    return 0


def run_files(given: argparse.Namespace) -> int:
    """The files command: what is there, what is missing and where to get it; 0 when nothing is missing."""
    from .checkpoints.presets import describe_missing, find_files

    folder = model_folder(given.model)
    missing, files = describe_missing(folder), find_files(folder)
    for role, path in files.paths.items():
        print(f"{role:<24} {path.name}")
    for file in files.missing:
        print(f"{file.role:<24} missing: {', '.join(filter(None, (file.published, file.size)))}")
    print(missing or f"{folder} is complete")
    return 1 if missing else 0


def open_driving(given: argparse.Namespace) -> VideoReader:
    """The driving video at an even rate, its own unless another is asked for, so that its sound fits."""
    from .media.video import open_video

    fps = given.fps or open_video(given.driving).fps
    return open_video(given.driving, fps, given.start, max_frames=given.frames)


def model_folder(name: Path) -> Path:
    """The folder of --model; "small" is the built-in one unless there is a folder of that name."""
    return built_in_model() if name == Path(BUILT_IN) and not name.is_dir() else name


def is_preview(name: Path) -> bool:
    """True for --model preview, unless there is a folder of that name."""
    return name == Path(PREVIEW) and not name.is_dir()


def check_preview(given: argparse.Namespace) -> None:
    """Raises ValueError for options that only networks understand."""
    usual = parser().parse_args(["reenact", "--portrait", "-", "--driving", "-", "--output", "-"])
    changed = [name for name in OF_NETWORKS if getattr(given, name) != getattr(usual, name)]
    if changed:
        raise ValueError(
            f"--{changed[0].replace('_', '-')} is for networks and --model preview has none; choose "
            f"--model {BUILT_IN} or a folder, or leave the option out"
        )


def text_embedding(text: Path | None, clip: Path | None) -> Tensor | None:
    """The embedding of the prompt from whichever file is given."""
    from .text import embed_prompt, read_embedding

    if text is not None:
        return read_embedding(text)
    return None if clip is None else embed_prompt(clip)


def dtype_of(name: str | None, device: torch.device) -> torch.dtype:
    """The networks' precision: half on accelerators, single on the CPU, where half is slow."""
    import torch

    if name is None:
        name = "fp32" if device.type == "cpu" else "fp16"
    return getattr(torch, DTYPES[name])


def options_of(given: argparse.Namespace) -> Any:
    """The ReenactOptions of a command; unfinished work is kept beside the result."""
    from .pipeline import ReenactOptions

    return ReenactOptions(
        steps=given.steps,
        guidance_scale=given.guidance_scale,
        seed=given.seed,
        guidance_strength=given.guidance_strength,
        map_strengths=dict(given.map),
        shorter_side=given.size,
        output_side=given.output_size,
        plan=given.plan,
        overlap=given.overlap,
        coupling=given.coupling,
        window_frames=given.window_frames,
        windows_per_batch=given.windows_per_batch,
        round_tokens=given.round_tokens,
        state_file=given.output.with_name(f".{given.output.name}.unfinished"),
        save_every=given.save_every,
        features_file=given.output.with_name(f".{given.output.name}.features"),
    )


def alignment_of(given: argparse.Namespace) -> Any:
    """The StructuredFaceAlignment of a command."""
    from .alignment import StructuredFaceAlignment

    known = [f.name for f in fields(StructuredFaceAlignment) if f.type == "float"]
    unknown = [name for name, _ in given.motion if name not in known]
    if unknown:
        raise ValueError(f"--motion {unknown[0]}: expected one of {', '.join(known)}")
    return StructuredFaceAlignment(mode=given.alignment, **dict(given.motion))


def check_output(path: Path) -> None:
    """Raises ValueError or OSError for a result that could not be written, before hours of work."""
    if path.suffix.lower() not in VIDEO_FILES:
        raise ValueError(f"{path.name!r} does not end in {', '.join(VIDEO_FILES)}; choose one of them")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}; make it, or choose another --output")


def strength(text: str) -> tuple[str, float]:
    """NAME=NUMBER, for argparse."""
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER")
    return name, value


def _add_reenact(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=run_reenact)
    add = command.add_argument_group("files").add_argument
    add("--portrait", type=Path, required=True, metavar="FILE", help="picture of one person")
    add("--driving", type=Path, required=True, metavar="FILE", help="video of a face; its sound is kept")
    add("--output", type=Path, required=True, metavar="FILE", help="the result, an .mp4")
    help = "preview, the default: the photo itself is moved, without networks; small: repaired by the model "
    help += "that is built in; or a folder of released, converted or trained networks"
    add("--model", type=Path, default=Path(DEFAULT), metavar="NAME", help=help)
    add("--vae", type=Path, metavar="FILE", help="SD 1.5's VAE, or a whole checkpoint; small needs none")
    add("--head", default="open_head", metavar="FILE", help="another head model than the built-in one")
    _add_text(command)
    add = command.add_argument_group("motion").add_argument
    add("--start", type=float, default=0.0, metavar="SECONDS", help="leave out the video before this")
    add("--frames", type=int, metavar="N", help="use at most N frames")
    add("--fps", type=float, help="resample the video to this rate")
    add("--alignment", choices=("auto", "absolute", "relative"), default="auto")
    help = (
        "strength, head, jaw, mouth, brows, lids, gaze=0 (portrait's) to 1 (driver's), own_expression=0 to "
        "1; may be repeated"
    )
    add("--motion", type=strength, action="append", default=[], metavar="NAME=NUMBER", help=help)
    add = command.add_argument_group("sampling").add_argument
    add("--size", type=int, metavar="PIXELS", help="shorter side of the working size; as trained")
    help = "shorter side of the result, at most, of preview and small, which keep the photo's size; 512"
    add("--output-size", type=int, metavar="PIXELS", help=help)
    add("--steps", type=int, metavar="N", help="the model's usual number: 20 of the released one, 1 of small")
    help = "1 is off and takes half the time; 3.5 with the released model, 1 with small"
    add("--guidance-scale", type=float, metavar="SCALE", help=help)
    add("--guidance-strength", type=float, default=1.0, help="0 ignores the maps, 1 is as trained")
    help = "depth, normal or render (warp, portrait or sources)=0 (off) to 2; may be repeated"
    add("--map", type=strength, action="append", default=[], metavar="NAME=NUMBER", help=help)
    add("--seed", type=int, default=42)
    add("--plan", choices=("open", "loop", "released"), default="open", help="how windows cover the clip")
    add("--overlap", type=int, default=1, metavar="FRAMES", help="that neighbouring windows share")
    add("--window-frames", type=int, metavar="N", help="as trained; fewer need less memory")
    add("--coupling", choices=("every_step", "independent"), default="every_step")
    add("--round-tokens", action="store_true", help="round the portrait's tokens as the released code does")
    add = command.add_argument_group("running").add_argument
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps; the accelerator if there is one")
    add("--dtype", choices=tuple(DTYPES), help="fp16 on accelerators, fp32 on the CPU")
    add("--windows-per-batch", type=int, metavar="N", help="as many as fit into memory")
    add("--save-every", type=int, default=5, metavar="STEPS", help="keep the unfinished render so often")
    add("--anew", action="store_true", help="do not go on with an unfinished render")
    add("--no-sound", action="store_true")


def _add_convert(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=run_convert)
    command.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="released files")
    command.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    command.add_argument("--dtype", choices=tuple(DTYPES), help="as in the released files")
    command.add_argument("--overwrite", action="store_true", help="replace files that are there")
    _add_text(command)


def _add_files(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=run_files)
    command.add_argument("--model", type=Path, default=Path(BUILT_IN), metavar="FOLDER")


def _add_text(command: argparse.ArgumentParser) -> None:
    add = command.add_mutually_exclusive_group().add_argument
    add("--clip", type=Path, metavar="FILE", help="CLIP-L (clip_l.safetensors) or a whole SD 1.5 checkpoint")
    add("--text", type=Path, metavar="FILE", help="or a saved embedding of the prompt")


def _failed(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1
