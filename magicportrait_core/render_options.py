"""How a clip is sampled, and the checks that need no network: what cannot work is refused at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from .autoencoder import Autoencoder, check_vae
from .denoiser import check_guidance
from .diffusion.layout import Coupling
from .diffusion.noise import frame_noise
from .diffusion.schedule import check_steps
from .diffusion.state import StateFile
from .diffusion.windows import WindowPlan, plan_windows
from .media.image import to_levels
from .motion_features import (
    MapSource,
    MotionFeatures,
    check_features,
    check_working_size,
    checked_strengths,
)
from .pixel_unshuffle import PixelUnshuffle
from .reference import LARGEST_SIDE, check_same_aspect, undistorted_size, working_size
from .text import check_text

if TYPE_CHECKING:
    from .diffusion.segments import Windows
    from .models.config import ModelConfig
    from .models.model import MagicPortraitModel

Size = tuple[int, int]  # height, width
RELEASED_SEED = 42
OTHER_PICTURE = 12.0  # 8-bit levels, mean difference; a copy of another size differs by 1 to 3
OUTPUT_SIDE = 512  # pixels; a small model's correction carries no farther


@dataclass(frozen=True)
class ReenactOptions:
    """How a clip is sampled. The defaults are the model's usual ones; for the released model those of the
    released pipeline, except for the window plan."""

    steps: int | None = None  # None: the model's usual number
    guidance_scale: float | None = None  # classifier-free; 1 is off and takes half the time
    seed: int = RELEASED_SEED
    guidance_strength: float = 1.0  # how closely to follow the maps: 0 not at all, 1 as trained, up to 2
    map_strengths: Mapping[str, float] = field(default_factory=dict)  # the same for single maps, by name
    shorter_side: int | None = None  # pixels of the working size; None: as trained
    output_side: int | None = None  # at most, of models that correct a warp of the portrait; None: 512
    plan: WindowPlan = "open"
    overlap: int = 1  # frames that neighbouring windows share
    window_frames: int | None = None  # None: as trained; fewer need less memory
    coupling: Coupling = "every_step"
    windows_per_batch: int | None = None  # None: as many as fit into free memory
    round_tokens: bool = False  # the portrait's tokens in fp16 in between, as in the released code
    state_file: Path | None = None  # keeps an unfinished render; the same call goes on from it
    save_every: int = 5  # steps
    features_file: Path | None = None  # keeps the motion features of long clips out of memory

    def __post_init__(self):
        check_guidance(1.0 if self.guidance_scale is None else self.guidance_scale, self.guidance_strength)
        check_steps(1 if self.steps is None else self.steps)
        if self.output_side is not None and not 2 <= self.output_side <= LARGEST_SIDE:
            raise ValueError(f"output_side={self.output_side}; expected 2 to {LARGEST_SIDE} pixels")
        frame_noise(self.seed, (), (1, 1, 1))
        if self.windows_per_batch is not None and self.windows_per_batch < 1:
            raise ValueError(f"windows_per_batch={self.windows_per_batch}; expected at least 1")
        if self.state_file is not None:
            StateFile(self.state_file, self.save_every)

    def for_model(self, config: ModelConfig) -> ReenactOptions:
        """The same with the model's usual values where nothing was chosen."""
        return replace(
            self,
            steps=config.steps if self.steps is None else self.steps,
            guidance_scale=config.guidance_scale if self.guidance_scale is None else self.guidance_scale,
        )

    @property
    def warp_file(self) -> Path | None:
        """Beside the features file: keeps the warped portrait out of memory."""
        return self.features_file and self.features_file.with_name(f"{self.features_file.name}.warp")


def check_inputs(
    model: MagicPortraitModel,
    vae: Autoencoder | PixelUnshuffle | None,
    text: Tensor | None,
    options: ReenactOptions,
) -> Tensor:  # (1, N, D)
    """The text embedding to use; ValueError for what would fail later on, before anything is computed."""
    config = model.config
    check_vae(vae, config)
    text = model.text if text is None else text
    if text is None:
        raise ValueError(
            f"the model {model.name!r} has no text embedding stored with it; give that of the training "
            "prompt (magicportrait_core.embed_prompt makes it from CLIP-L)"
        )
    check_text(text, config)
    checked_strengths(options.map_strengths, config)
    planned_windows(config.unet.max_frames, config, options)
    return text


def picture_size(portrait: Tensor) -> Size:
    """Height and width of one picture (3, H, W); ValueError for anything else."""
    if portrait.ndim != 3 or portrait.shape[0] != 3:
        raise ValueError(f"the portrait is {tuple(portrait.shape)}; expected one picture (3, height, width)")
    return portrait.shape[-2], portrait.shape[-1]


def sampling_size(
    portrait: Size, guidance: MapSource | MotionFeatures, model: MagicPortraitModel, options: ReenactOptions
) -> Size:
    """Height and width to sample at; ValueError for guidance that is not the portrait's."""
    config = model.config
    if isinstance(guidance, MotionFeatures):
        check_features(guidance, config)
        size = tuple(cells * config.pixels_per_cell for cells in guidance.size)
        check_working_size(size, config)
        check_same_aspect(portrait, size, slack=0.75 * config.pixel_multiple)
        return size
    check_same_aspect(portrait, guidance.size, slack=1 + max(portrait) / min(portrait))
    return working_size(portrait, config, options.shorter_side)


def check_same_portrait(
    pixels: Tensor,  # (3, H, W) in [-1, 1], the portrait at the working size
    features: MotionFeatures,
) -> None:
    """Raises ValueError where the features start from the warp of another picture."""
    if features.prior is None or features.prior.portrait is None:
        return
    levels = to_levels(pixels).movedim(-1, 0)
    off = float((levels.float() - features.prior.portrait.float()).abs().mean())
    if off > OTHER_PICTURE:
        raise ValueError(
            f"the portrait is not the picture that was warped for the motion features (they differ by "
            f"{off:.0f} of 255 levels on average); use one portrait for the track, the warp and the sampler"
        )


def output_size(portrait: Size, options: ReenactOptions) -> Size:
    """Height and width of the result of models that correct a warp: the portrait's own size or, where that
    is larger, with a shorter side of about `options.output_side`."""
    side = OUTPUT_SIDE if options.output_side is None else options.output_side
    return portrait if min(portrait) <= side else undistorted_size(portrait, (side, side))


def planned_windows(frames: int, config: ModelConfig, options: ReenactOptions) -> Windows:
    """The windows of a clip of `frames`; ValueError for windows that the motion modules cannot take."""
    size = config.window if options.window_frames is None else options.window_frames
    if not 1 <= size <= config.unet.max_frames:
        raise ValueError(
            f"window_frames={size}; expected 1 to {config.unet.max_frames}, the model was trained with "
            f"{config.window}"
        )
    return plan_windows(frames, size, options.overlap, options.plan)


def render_fingerprint(
    model: MagicPortraitModel,
    features: MotionFeatures,
    pixels: Tensor,  # (3, H, W) the portrait at the working size
    text: Tensor,
    options: ReenactOptions,
    vae: str = "",  # its fingerprint, where it has one
) -> str:
    """Of everything but noise, schedule and windows that decides the latents: a state file goes on only
    where it is the same."""
    settings = [
        model.fingerprint,
        str(model.dtype),
        features.fingerprint,
        options.guidance_scale,
        options.guidance_strength,
        options.round_tokens,
        vae,
    ]
    digest = hashlib.sha256(json.dumps(settings).encode())
    digest.update(to_levels(pixels).numpy())
    digest.update(text.float().cpu().contiguous().numpy())
    return digest.hexdigest()[:32]
