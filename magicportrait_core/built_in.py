"""The small model that comes with the package."""

from __future__ import annotations

from pathlib import Path

BUILT_IN = "small"  # what people call it: ModelConfig.name, and the folder's
PREVIEW = "preview"  # what people say for no networks at all
DEFAULT = PREVIEW  # the better of the two; training/small/README.md has the comparison
_FOLDER = Path(__file__).with_name("assets") / BUILT_IN


def built_in_model() -> Path:
    """The folder with its weights, for load_model().

    Raises FileNotFoundError with one sentence where they did not come with the package.
    """
    if not (_FOLDER / "denoising_unet.safetensors").is_file():
        raise FileNotFoundError(
            f"the built-in model is not in this copy of the package ({_FOLDER} lacks its weights); install "
            "the package again, or give the folder of another model"
        )
    return _FOLDER
