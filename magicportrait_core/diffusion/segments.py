"""PortraitSegments: what the sampler gives, window by window, and how segments form one timeline."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

Windows = tuple[tuple[int, ...], ...]  # frame numbers of each window, in the order the network sees them


@dataclass(frozen=True)
class PortraitSegments:
    """Clean latents of windows of one clip; several samplers may each hold a part of the windows."""

    latents: tuple[Tensor, ...]  # each (C, W, h, w) float32 on the CPU, in the network's scale
    frames: Windows  # frame numbers of each segment, 0 is the clip's first frame
    num_frames: int  # of the whole clip
    latent_scale: float  # network's scale = VAE's scale x this
    render: str = ""  # fingerprint of everything but the frame range: segments of one render share it

    def __post_init__(self):
        if len(self.latents) != len(self.frames) or not self.latents:
            raise ValueError(f"{len(self.latents)} latents for {len(self.frames)} lists of frames")
        channels, _, *size = self.latents[0].shape
        for latent, frames in zip(self.latents, self.frames, strict=True):
            if not frames or latent.shape != (channels, len(frames), *size) or latent.ndim != 4:
                raise ValueError(
                    f"a segment of {len(frames)} frames has latents {tuple(latent.shape)}, the first one "
                    f"{tuple(self.latents[0].shape)}; expected (C, W, h, w) with equal C, h, w"
                )
            if min(frames) < 0 or max(frames) >= self.num_frames:
                raise ValueError(f"frames {min(frames)}-{max(frames)} of a clip of {self.num_frames}")
