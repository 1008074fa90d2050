"""GuidanceMaps -> MotionFeatures: what the Geometric Guidance Encoders make of a clip's maps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from .devices import place
from .guidance import GuidanceMaps
from .mapped_tensors import room
from .models.config import WARP_MAPS, ModelConfig
from .reference import check_same_aspect, named
from .resampling import resized_levels
from .warp_prior import WarpPrior
from .warped_portrait import WarpedPortrait, WarpedSource

if TYPE_CHECKING:
    from .face_view import FaceView
    from .models.guidance_encoder import GuidanceEncoders

OnFrame = Callable[[int, int], None]  # frames encoded so far, of how many; may raise to cancel

FRAMES_AT_ONCE = 8  # maps taken from their source together
LARGEST_STRENGTH = 2.0


class MapSource(Protocol):
    """Maps that are there, as GuidanceMaps, or that are rendered when a slice is asked for."""

    @property
    def num_frames(self) -> int: ...

    @property
    def size(self) -> tuple[int, int]: ...

    def __getitem__(self, frames: slice) -> GuidanceMaps: ...


@dataclass(frozen=True)
class MotionFeatures:
    """Summed features of all maps, in the encoders' precision; those of long clips lie in a mapped file."""

    values: Tensor  # (F, E, h, w) in the precision of the encoders, on the CPU
    fingerprint: str  # of the maps, the encoders, the strengths and the prior
    prior: WarpPrior | None = None  # of warp-preconditioned models
    view: FaceView | None = None  # the part of the picture that these are of; None: all of it

    @property
    def num_frames(self) -> int:
        return self.values.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in latent cells."""
        return self.values.shape[-2], self.values.shape[-1]

    def window(
        self, frames: tuple[int, ...], device: torch.device, dtype: torch.dtype
    ) -> Tensor:  # (E, W, h, w)
        """The features of some frames, in the network's layout."""
        return self.values[list(frames)].to(device, dtype).movedim(0, 1)


@torch.no_grad()
def encode_motion(
    encoders: GuidanceEncoders,
    maps: MapSource,
    config: ModelConfig,
    size: tuple[int, int] | None = None,  # height, width to sample at, pixels; None: the maps' own
    strengths: Mapping[str, float] | None = None,  # by map, 0 (off) to 2; what is not named has 1, as trained
    on_frame: OnFrame | None = None,
    store: Path | None = None,  # a file to keep the features in, instead of memory
    fingerprint: str = "",  # of the model
    device: torch.device | None = None,  # where the encoders compute; None: where they are
    warped: WarpedSource | None = None,  # the flow-warped portrait, for models that read it; of any size
) -> MotionFeatures:
    """The features of a clip, one frame after the other on one device and in the encoders' precision.

    Maps of another size are resampled as released (bicubic on 8-bit levels). The encoders look at single
    frames, and a batch would only change the rounding: alone, a frame has the same features bit for bit in
    every part of every clip. Models that do not read the warp leave it alone.

    Raises ValueError for a size the networks cannot take, for strengths out of range, and for a warp that is
    missing or of another clip.
    """
    height, width = size or maps.size
    check_working_size((height, width), config)
    strengths = checked_strengths(strengths, config)
    warped = _checked_warp(warped, maps, config)
    here, dtype = place(encoders)
    device = device or here
    values, prior, seen = None, [], hashlib.sha256()
    for start in range(0, maps.num_frames, FRAMES_AT_ONCE):
        frames = slice(start, min(start + FRAMES_AT_ONCE, maps.num_frames))
        part = maps[frames]
        pictures = {name: map_levels(part, name) for name in config.maps if name not in WARP_MAPS}
        for levels in pictures.values():
            seen.update(levels.numpy())
        if warped is not None:
            shown = warped[frames].resized((height, width))
            pictures |= {name: levels for name, levels in shown.maps().items() if name in config.maps}
            prior.append(shown)
            for levels in (shown.portrait, shown.warp_levels, shown.labels):
                seen.update(levels.contiguous().numpy())
        for i in range(frames.stop - start):
            inputs = {
                name: (resized_levels(levels[i : i + 1], (height, width)).to(device) / 255.0).to(dtype)
                for name, levels in pictures.items()
            }
            features = encoders(inputs, strengths)
            if values is None:
                values = room((maps.num_frames, *features.shape[1:]), features.dtype, store, "features")
            values[start + i] = features[0].to("cpu")
            if on_frame:
                on_frame(start + i + 1, maps.num_frames)
    settings = [fingerprint, seen.hexdigest(), height, width, strengths, str(dtype)]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    view = getattr(warped, "view", None)  # of a ViewedWarp
    return MotionFeatures(values, digest[:32], _prior(prior) if config.prior else None, view)


def map_levels(maps: GuidanceMaps, name: str) -> Tensor:  # (F, 3, H, W) uint8, contiguous
    """One kind of map as the released pictures hold it: depth on three channels, normals clipped at 0."""
    levels = (getattr(maps, name) * 255).round_().to(torch.uint8)
    return levels.expand(-1, 3, -1, -1).contiguous()


def checked_strengths(strengths: Mapping[str, float] | None, config: ModelConfig) -> dict[str, float]:
    """A strength for every map of the model; ValueError names what is unknown or out of range."""
    strengths = dict(strengths or {})
    for name, value in strengths.items():
        if name not in config.maps:
            raise ValueError(f"strength of {name!r}: the model has the maps {', '.join(config.maps)}")
        if not 0 <= value <= LARGEST_STRENGTH:
            raise ValueError(
                f"strength {name}={value:g}; expected 0 (off) to {LARGEST_STRENGTH:g}, 1 is as trained"
            )
    return {name: float(strengths.get(name, 1.0)) for name in config.maps}


def check_working_size(size: tuple[int, int], config: ModelConfig) -> None:
    """Raises ValueError unless the networks can sample at `size` (height, width), pixels."""
    unit = config.pixel_multiple
    if min(size) < unit or size[0] % unit or size[1] % unit:
        raise ValueError(
            f"the networks cannot work at {named(size)} pixels; expected height and width in multiples of "
            f"{unit}: let the size be chosen from the portrait"
        )


def check_features(features: MotionFeatures, config: ModelConfig) -> None:
    """Raises ValueError unless the features have what the model's preconditioning needs."""
    if (features.prior is None) != (config.prior is None):
        what, other = ("lack", "have") if features.prior is None else ("have", "lack")
        raise ValueError(
            f"the motion features {what} the warped portrait, those of the model {config.name!r} {other} it; "
            "encode the motion with the model that samples"
        )


def _checked_warp(warped: WarpedSource | None, maps: MapSource, config: ModelConfig) -> WarpedSource | None:
    if not config.reads_warp:
        return None
    if warped is None:
        raise ValueError(
            f"the model {config.name!r} starts from the portrait moved by the flow warp, and got none; "
            "connect the warp of Flow Warp Preview, or give `warped`"
        )
    if warped.num_frames != maps.num_frames:
        raise ValueError(
            f"the warped portrait has {warped.num_frames} frames, the guidance {maps.num_frames}; make both "
            "from the same aligned track"
        )
    check_same_aspect(warped.size, maps.size, 1 + max(warped.size) / min(warped.size), "warped portrait")
    return warped


def _prior(parts: list[WarpedPortrait]) -> WarpPrior:
    return WarpPrior(
        torch.cat([part.warp_levels for part in parts]),
        torch.cat([part.labels for part in parts]),
        parts[0].portrait,
    )
