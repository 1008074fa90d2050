"""The SD 1.5 VAE from the files that people have: diffusers folders, single files, whole checkpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .checkpoints.fingerprint import Fingerprint
from .models.config import ModelConfig
from .pixel_unshuffle import PixelUnshuffle
from .weight_files import read_tensors

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

WEIGHT_NAMES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
PREFIXES = ("first_stage_model.", "vae.")  # of the VAE in whole checkpoints
PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")  # the rest served training
SDXL_ONLY = "conditioner.embedders."  # in whole SDXL checkpoints, whose VAE has the same shapes
SCALE_SLACK = 0.01
EXPECTED = "expected SD 1.5's, for example vae-ft-mse-840000-ema-pruned.safetensors"

# SD's name of a layer -> diffusers' name.
_LAYERS = {
    "nin_shortcut": "conv_shortcut",
    "norm_out": "conv_norm_out",
    "block_1": "resnets.0",
    "block_2": "resnets.1",
    "attn_1": "attentions.0",
}
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
# The released sd-vae-ft-mse folder still has the names that diffusers used before 0.13.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class Autoencoder:
    """Pictures in [-1, 1] <-> latents in the VAE's own scale (the network's scale / latent_scale)."""

    def __init__(self, vae: AutoencoderKL, name: str = "VAE"):
        self.vae = vae.eval().requires_grad_(False)
        self.name = name  # for messages

    @property
    def latent_channels(self) -> int:
        return self.vae.config.latent_channels

    @property
    def pixels_per_cell(self) -> int:
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def fingerprint(self) -> str:
        """Of the weights; two VAEs with the same one give the same latents and pictures."""
        weights = Fingerprint()
        for name, value in self.vae.state_dict().items():
            weights.add(name, value)
        return weights.text()

    def to(self, *args, **kwargs) -> Autoencoder:
        """Moves and casts the networks in place, as torch's Module.to; returns self."""
        self.vae.to(*args, **kwargs)
        return self

    @torch.no_grad()
    def encode(
        self,
        pictures: Tensor,  # (F, 3, H, W) in [-1, 1]
    ) -> Tensor:  # (F, C, h, w) float32, on the pictures' device
        """Means of the latents: nothing is drawn, so a portrait has one code (facts a.6)."""
        weight = self.vae.encoder.conv_in.weight
        latents = torch.cat([self.vae.encode(p[None].to(weight)).latent_dist.mean for p in pictures])
        return self._finite(latents.float(), "encoding the portrait").to(pictures.device)

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,  # (F, C, h, w)
    ) -> Iterator[Tensor]:  # (3, H, W) float32 in [-1, 1] each, on the CPU
        """One frame at a time, so that memory does not grow with the clip."""
        weight = self.vae.decoder.conv_in.weight
        for latent in latents:
            picture = self.vae.decode(latent[None].to(weight)).sample[0].float()
            yield self._finite(picture, "decoding a frame").clamp(-1, 1).cpu()

    def _finite(self, values: Tensor, doing: str) -> Tensor:
        if not torch.isfinite(values).all():
            raise ValueError(
                f"{self.name} gave values that are not finite numbers when {doing} in "
                f"{str(self.vae.dtype).removeprefix('torch.')}; load it in float32"
            )
        return values


def load_vae(path: str | Path, dtype: torch.dtype = torch.float32) -> Autoencoder:
    """A VAE on the CPU, from a diffusers folder, a file of its own or a whole SD 1.5 checkpoint.

    Names of SD and of diffusers are understood; a config.json beside the file is used. Raises
    FileNotFoundError or ValueError with one sentence for a missing, damaged or foreign file.
    """
    from .packages import check_diffusers

    check_diffusers()
    from diffusers import AutoencoderKL

    file = _weight_file(Path(path))
    state = diffusers_names(_vae_tensors(file))
    config = _config_beside(file) or config_of(state, file.name)
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(config)
    _check(state, vae.state_dict(), file.name)
    vae.load_state_dict({name: value.to(dtype) for name, value in state.items()}, assign=True)
    return Autoencoder(vae, file.name)


def autoencoder_of(
    vae: Autoencoder | PixelUnshuffle | None, config: ModelConfig
) -> Autoencoder | PixelUnshuffle:
    """The given one, checked; for models that work on the pixels themselves, which take none, those."""
    check_vae(vae, config)
    return PixelUnshuffle(config.pixels_per_cell) if vae is None else vae


def check_vae(vae: Autoencoder | PixelUnshuffle | None, config: ModelConfig) -> None:
    """Raises ValueError unless the VAE's latents are those the model works on; None is right for models that
    work on the pixels themselves."""
    if config.autoencoder == "unshuffle":
        own = PixelUnshuffle(config.pixels_per_cell)
        if isinstance(vae, Autoencoder) or (vae is not None and vae.fingerprint != own.fingerprint):
            raise ValueError(
                f"the model {config.name!r} works on {own.name} and takes no VAE; leave out {vae.name}"
            )
        return
    if not isinstance(vae, Autoencoder):
        got = "none" if vae is None else vae.name
        raise ValueError(f"the model {config.name!r} needs a VAE and got {got}; {EXPECTED}")
    if vae.latent_channels != config.unet.latent_channels or vae.pixels_per_cell != config.pixels_per_cell:
        raise ValueError(
            f"{vae.name} makes latents of {vae.latent_channels} channels with {vae.pixels_per_cell} pixels a "
            f"cell, the model needs {config.unet.latent_channels} and {config.pixels_per_cell}; {EXPECTED}"
        )
    scale = vae.vae.config.scaling_factor  # of files without a config it is taken to be SD 1.5's
    if abs(scale / config.latent_scale - 1) > SCALE_SLACK:
        raise ValueError(
            f"{vae.name} makes latents for a scale of {scale:g}, the model needs {config.latent_scale:g}; "
            f"{EXPECTED}"
        )


def diffusers_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the names of diffusers' AutoencoderKL of today."""
    levels = 1 + max(
        (int(n) for name in state for n in re.findall(r"^decoder\.up\.(\d+)\.", name)), default=0
    )
    renamed = {}
    for name, value in state.items():
        new = _renamed(name, levels)
        one_by_one = ".attentions." in new and value.ndim == 4  # SD's attention is made of 1x1 convolutions
        renamed[new] = value[:, :, 0, 0] if one_by_one else value
    return renamed


def config_of(state: dict[str, Tensor], name: str) -> dict[str, Any]:
    """The arguments of AutoencoderKL that the shapes of its tensors show."""
    resnets = {
        tuple(map(int, match.groups()))
        for key in state
        if (match := re.match(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.conv1\.weight$", key))
    }
    if not resnets or "decoder.conv_in.weight" not in state:
        raise ValueError(f"{name} holds no VAE that this model can use; {EXPECTED}")
    levels = 1 + max(level for level, _ in resnets)
    return {
        "block_out_channels": [
            state[f"encoder.down_blocks.{i}.resnets.0.conv1.weight"].shape[0] for i in range(levels)
        ],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": 1 + max(layer for _, layer in resnets),
        "latent_channels": state["decoder.conv_in.weight"].shape[1],
    }


def _weight_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for folder in (path, path / "vae"):
        for name in WEIGHT_NAMES:
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(f"there is no VAE in {path}; expected {' or '.join(WEIGHT_NAMES)} in it")


def _vae_tensors(file: Path) -> dict[str, Tensor]:
    sdxl = False

    def wanted(name: str) -> bool:
        nonlocal sdxl
        sdxl = sdxl or name.startswith(SDXL_ONLY)
        return name.startswith((*PREFIXES, *PARTS))

    state = read_tensors(file, wanted)
    if sdxl:
        raise ValueError(f"{file.name} is an SDXL checkpoint, whose VAE has other latents; {EXPECTED}")
    for prefix in PREFIXES:
        if any(name.startswith(prefix) for name in state):
            state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return {k: v for k, v in state.items() if k.startswith(PARTS)}


def _config_beside(file: Path) -> dict[str, Any] | None:
    try:
        config = json.loads((file.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if config.get("_class_name") == "AutoencoderKL" else None


def _renamed(name: str, levels: int) -> str:
    name = re.sub(r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets.", name)
    name = re.sub(r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0.", name)
    name = re.sub(
        r"\.up\.(\d+)\.(block|upsample)\.",  # the decoder's levels count from the finest one
        lambda m: (
            f".up_blocks.{levels - 1 - int(m[1])}." + ("resnets." if m[2] == "block" else "upsamplers.0.")
        ),
        name,
    )
    parts = [{"mid": "mid_block", **_LAYERS}.get(part, part) for part in name.split(".")]
    if "attn_1" in name or ".attentions." in name:
        parts = [{**_OLD_ATTENTION, **(_ATTENTION if "attn_1" in name else {})}.get(p, p) for p in parts]
    return ".".join(parts)


def _check(state: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> None:
    missing, foreign = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or foreign:
        wrong = f"lacks {missing[0]!r}" if missing else f"has {foreign[0]!r}"
        raise ValueError(f"{name} is not a VAE that this model can use (it {wrong}); {EXPECTED}")
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise ValueError(
                f"{name}: {key!r} is {tuple(value.shape)} and not {tuple(expected[key].shape)}; {EXPECTED}"
            )
