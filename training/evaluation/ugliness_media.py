"""What the ugliness suite runs on: ComfyUI's template media, and folders of one's own."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from magicportrait_core.media.image import load_image, save_image
from training.evaluation.footage import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from training.evaluation.pairs import Pair

PACKAGES = "comfyui_workflow_templates_media_"  # image, video, api, other; they come with ComfyUI
WIDE = 3.0  # width over height of the pictures with a face off the middle

# Previews of ComfyUI's templates (MIT, made by AI), by package: the first picture of each is a portrait.
PORTRAITS = {
    "image": (
        "video_kandinsky5_t2v-1.webp",  # woman, three-quarter, dark
        "wan2.1_fun_control-2.webp",  # eyes shut, three-quarter, close
        "utility_hitpaw_video_enhance-1.webp",  # two people, man laughs
        "templates_rob_realistic_2k_images_quick_variations.app-1.webp",  # dark skin, sunglasses, tilted
        "image_qwen_image_2512_with_2steps_lora-1.webp",  # black and white, beard, turned far
        "image_z_image_turbo_fun_union_controlnet-1.webp",  # face at the border
        "image_longcat_text_to_image-1.webp",  # glasses, coloured light, turned
        "hidream_e1_1-2.webp",  # laughs, long hair
    ),
    "video": ("video_wan2_2_14B_flf2v-1.webp",),  # painting, hat, beard
    "other": (
        "api_bytedance_seedance1_5_image_to_video-1.webp",  # child, cap
        "templates_mjm_looped_restyler-1.webp",  # collage of statues
    ),
    "api": ("api_stability_ai_stable_image_ultra_t2i-1.webp",),  # glasses, three-quarter
}
# The same widened: the face at the left (0) or the right (1) edge of a wide picture.
OFF_THE_MIDDLE = (
    ("image", "image_z_image_turbo-1.webp", 0.0),
    ("image", "flux_dev_checkpoint_example-1.webp", 1.0),
    ("api", "api_runway_text_to_image-1.webp", 0.0),
    ("other", "gsl_starter_1_1-1.webp", 1.0),
)
DRIVERS = {
    "video": (
        "video_ltx2_3_id_lora-1.webp",  # talks, grows, glasses
        "video_wan2_2_14B_t2v-1.webp",  # smiles, turned, moves
    ),
    "image": (
        "wan2.1_fun_control-2.webp",  # starts turned, eyes shut at first
        "utility_hitpaw_video_enhance-1.webp",  # laughs throughout, looks aside
    ),
}


def template_pairs(
    made: Path,  # folder for the widened pictures
) -> list[Pair]:
    """Return every portrait of the template media with every driver.

    Raises FileNotFoundError with one sentence where the packages are not installed.
    """
    portraits = [template_file(kind, name) for kind, names in PORTRAITS.items() for name in names]
    for kind, name, side in OFF_THE_MIDDLE:
        source = template_file(kind, name)
        path = made / f"off_the_middle_{source.stem}.png"
        if not path.is_file():
            made.mkdir(parents=True, exist_ok=True)
            save_image(widened(load_image(source), side), path)
        portraits.append(path)
    drivers = [template_file(kind, name) for kind, names in DRIVERS.items() for name in names]
    return [Pair(driver, portrait) for portrait in portraits for driver in drivers]


def template_file(kind: str, name: str) -> Path:
    """Return a file of a template media package."""
    package = PACKAGES + kind
    spec = importlib.util.find_spec(package)
    folder = Path(spec.submodule_search_locations[0]) / "templates" if spec else None
    if folder is None or not (folder / name).is_file():
        what = "is not installed" if folder is None else f"has no {name} in the installed version"
        raise FileNotFoundError(
            f"the package {package.replace('_', '-')} {what}; run `make check-pictures`, whose Python has "
            "it, or give --no-templates and --more FOLDER"
        )
    return folder / name


def widened(
    picture: Tensor,  # (3, H, W) in [-1, 1]
    side: float,  # where the picture goes: 0 at the left edge ... 1 at the right
) -> Tensor:  # (3, H, WIDE * H)
    """Return a wide picture that goes on beside the picture with the colours of its outermost columns."""
    height, width = picture.shape[-2:]
    room = round(WIDE * height) - width
    left = round(side * room)
    return torch.nn.functional.pad(picture[None], (left, room - left, 0, 0), mode="replicate")[0]


def folder_pairs(folders: Sequence[Path]) -> list[Pair]:
    """Return every picture in some folders with every video in them.

    Raises ValueError or OSError with one sentence for folders without either.
    """
    portraits, drivers = _files(folders, PICTURE_SUFFIXES), _files(folders, VIDEO_SUFFIXES)
    if not portraits or not drivers:
        what, suffixes = ("pictures", PICTURE_SUFFIXES) if not portraits else ("videos", VIDEO_SUFFIXES)
        named = ", ".join(map(str, folders))
        raise ValueError(
            f"{named}: no {what} ({', '.join(suffixes)}); give --more folders that hold both kinds"
        )
    return [Pair(driver, portrait) for portrait in portraits for driver in drivers]


def listed_pairs(path: Path, folders: Sequence[Path]) -> list[Pair]:
    """Return the pairs of a file with lines of portrait,driver: paths from one of the folders.

    Raises ValueError or OSError with one sentence for lines that name no two files.
    """
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.reader(file) if any(cell.strip() for cell in line)]
    found = []
    for number, line in enumerate(lines, start=1):
        if len(line) != 2:
            raise ValueError(f"line {number} of {path} has {len(line)} entries; expected portrait,driver")
        portrait, driver = (_in_one_of(folders, cell.strip(), f"line {number} of {path}") for cell in line)
        found.append(Pair(driver, portrait))
    return found


def _files(folders: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}; give one with portraits and drivers")
    return sorted(p for folder in folders for p in folder.iterdir() if p.suffix.lower() in suffixes)


def _in_one_of(folders: Sequence[Path], name: str, where: str) -> Path:
    found = [folder / name for folder in folders if (folder / name).is_file()]
    if not found:
        named = ", ".join(map(str, folders))
        raise FileNotFoundError(f"{where}: there is no {name} in {named}; name files of the --more folders")
    return found[0]
