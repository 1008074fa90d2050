"""Peak memory of the whole sampling path for clips of 24, 96 and 384 frames.

    python scripts/host.py run -m benchmarks.sampler_memory [--frames 24 96 384] [--cells 32]

Each length runs in a process of its own, on the CPU: guidance encoders, VAE, AppearanceNet, sampler, merging
and VAE decoding, through pipeline.animate and decode_clip, with random networks of toy width. Guidance maps
are made when asked for and frames are dropped once decoded, so neither is in the figures. Peaks shown:

network   what one call of the denoiser allocates, by torch's own count. This is what a graphics card has to
          hold besides the weights, and it must be the same for every length.
process   anonymous memory above that of the loaded networks, watched every 2 ms (Linux). The clip is part of
          it: latents, noise and predictions in float32, a few copies of 64 KB a frame at 512x512 pixels. The
          motion features lie in a mapped file, as they do for long clips.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from benchmarks.sampler import MIB, SIZES, random_weights, with_peak
from magicportrait_core.autoencoder import Autoencoder
from magicportrait_core.denoiser import GuidedDenoiser
from magicportrait_core.guidance import GuidanceMaps
from magicportrait_core.models.appearance_net import AppearanceNet
from magicportrait_core.models.config import GuidanceEncoderConfig, ModelConfig
from magicportrait_core.models.denoising_unet import DenoisingUNet
from magicportrait_core.models.guidance_encoder import GuidanceEncoders
from magicportrait_core.models.model import MagicPortraitModel
from magicportrait_core.pipeline import ReenactOptions, animate, decode_clip

TOY = ModelConfig(
    name="toy",
    unet=SIZES["toy"],
    guidance=GuidanceEncoderConfig(block_out_channels=(8, 8, 16, 16), heads=2, norm_groups=8),
)
# Memory that is free again goes back to the system at once, so that the process shows what is in use.
RETURN_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**16), "MALLOC_TRIM_THRESHOLD_": str(2**16)}
STEPS = 2  # the second one starts with everything that a step leaves behind


@dataclass(frozen=True)
class RandomMaps:
    """Guidance maps that exist while they are looked at."""

    num_frames: int
    size: tuple[int, int]

    def __getitem__(self, frames: slice) -> GuidanceMaps:
        count = len(range(self.num_frames)[frames])
        levels = (torch.randint(256, (count, c, *self.size), dtype=torch.uint8) for c in (1, 3, 3))
        return GuidanceMaps(*levels, torch.ones(count, 1, *self.size, dtype=torch.uint8))


class PeakMemory:
    """The largest anonymous memory of this process while the `with` block runs, in bytes above its start."""

    def __enter__(self) -> PeakMemory:
        self.before = self.peak = anonymous_memory()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.done.wait(0.002):
            self.peak = max(self.peak, anonymous_memory())

    @property
    def above(self) -> int:
        return self.peak - self.before


def anonymous_memory() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])


def toy_model() -> MagicPortraitModel:
    unet, net, encoders = DenoisingUNet(TOY.unet), AppearanceNet(TOY.unet), GuidanceEncoders(TOY)
    text = torch.randn(1, 77, TOY.unet.text_dim)
    networks = (random_weights(part) for part in (net, unet, encoders))
    return MagicPortraitModel(TOY, *networks, text, fingerprint="random", name="toy")


def toy_vae() -> Autoencoder:
    levels = len(TOY.guidance.block_out_channels)
    vae = AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=8,
        layers_per_block=1,
    )
    return Autoencoder(random_weights(vae))


class Seen(Exception):
    """Ends a render after the first call of the denoiser; says how many bytes that took."""


def seen_once(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def first(*args: object) -> Tensor:
        raise Seen(with_peak(lambda: call(*args), torch.device("cpu"))[1])

    return first


@torch.no_grad()
def measure(frames: int, cells: int) -> dict[str, int]:
    """Bytes: network, sampling, decoding."""
    torch.manual_seed(0)
    model, vae = toy_model(), toy_vae()
    size = (cells * TOY.pixels_per_cell,) * 2
    portrait = 2 * torch.rand(3, *size) - 1
    with tempfile.TemporaryDirectory() as folder:
        options = ReenactOptions(
            steps=STEPS,
            shorter_side=size[0],
            windows_per_batch=1,
            state_file=Path(folder) / "state.safetensors",
            save_every=1,
            features_file=Path(folder) / "features",
        )
        # Whatever is set up once, the first time that an operator runs, belongs to no clip.
        animate(portrait, RandomMaps(TOY.window, size), model, vae, options=options)
        options.state_file.unlink()
        with PeakMemory() as sampling:
            latents = animate(portrait, RandomMaps(frames, size), model, vae, options=options)
        options.state_file.unlink()
        with PeakMemory() as decoding:
            for _ in decode_clip(latents, model, vae):
                pass
        GuidedDenoiser.__call__ = seen_once(GuidedDenoiser.__call__)
        try:
            animate(portrait, RandomMaps(frames, size), model, vae, options=options)
        except Seen as seen:
            (network,) = seen.args
    return {"network": network, "sampling": sampling.above, "decoding": decoding.above}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[24, 96, 384])
    parser.add_argument("--cells", type=int, default=32, help="height and width of the latents")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.measure:
        print(json.dumps(measure(options.measure, options.cells)))
        return
    side = options.cells * TOY.pixels_per_cell
    latent = 4 * TOY.unet.latent_channels * options.cells**2
    print(f"{side}x{side} pixels, toy widths; one frame's latents are {latent / 1024:.0f} KB in float32")
    print("frames   network: one call   process: sampling   process: decoding   MiB")
    peaks = []
    for frames in options.frames:
        peaks.append(measured_apart(frames, options.cells))
        row = (peaks[-1][name] / MIB for name in ("network", "sampling", "decoding"))
        print("{:6d}{:19.2f}{:20.1f}{:20.1f}".format(frames, *row))
    more = max(options.frames[-1] - options.frames[0], 1)
    growth = [(peaks[-1][name] - peaks[0][name]) / more / latent for name in ("sampling", "decoding")]
    print(
        "a further frame takes {:.1f} times its latents in sampling, {:.1f} times in decoding".format(*growth)
    )


def measured_apart(frames: int, cells: int) -> dict[str, int]:
    """measure() in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--cells", str(cells), "--measure", str(frames)]
    settings = {**os.environ, **RETURN_MEMORY}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=settings).stdout
    return json.loads(output.splitlines()[-1])


if __name__ == "__main__":
    main()
