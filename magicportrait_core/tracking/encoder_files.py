"""DECA's and SMIRK's published checkpoints: the parts that are used, read strictly; no code in them runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..weight_files import read_pickled
from .deca import DecaEncoder
from .smirk import SmirkExpressionEncoder

logger = logging.getLogger("magicportrait")


@dataclass(frozen=True)
class EncoderFile:
    """One published checkpoint."""

    what: str
    file: str  # its published name
    origin: str
    licence: str
    prefix: str  # of the weights that are used
    unused: Mapping[str, str]  # beginning of other names -> why they are not read


DECA = EncoderFile(
    what="DECA's encoder",
    file="deca_model.tar",
    origin="github.com/yfeng95/DECA ('released model' in its README)",
    licence="DECA licence: non-commercial research, Max Planck Institute",
    prefix="E_flame.",
    unused={
        "E_detail.": "wrinkles; the released system computes and ignores them",
        "D_detail.": "wrinkles, as above",
        "opt": "state of DECA's training",
        "epoch": "state of DECA's training",
        "global_step": "state of DECA's training",
        "batch_size": "state of DECA's training",
    },
)
SMIRK = EncoderFile(
    what="SMIRK's encoder",
    file="SMIRK_em1.pt",
    origin="github.com/georgeretsi/smirk (its quick_install.sh fetches it)",
    licence="code MIT; trained with FLAME 2020, whose licence is for non-commercial research",
    prefix="smirk_encoder.expression_encoder.",
    unused={
        "smirk_encoder.pose_encoder.": "rotation and camera; the released system takes DECA's",
        "smirk_encoder.shape_encoder.": "identity; the released system takes DECA's",
        "smirk_generator.": "draws pictures while SMIRK is trained",
    },
)


def load_deca(
    path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> DecaEncoder:
    """The coarse encoder in deca_model.tar; ValueError with one sentence for another or a damaged file."""
    return _load(Path(path), DECA, DecaEncoder, device, dtype)


def load_smirk(
    path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> SmirkExpressionEncoder:
    """The expression encoder in SMIRK_em1.pt; ValueError with one sentence for another or a damaged file."""
    return _load(Path(path), SMIRK, SmirkExpressionEncoder, device, dtype)


def _load(path: Path, kind: EncoderFile, network: type[nn.Module], device, dtype: torch.dtype):
    weights = _used(path, kind, _read(path, kind))
    with torch.device("meta"):
        module = network()
    _check(path, kind, module, weights)
    # Copies, since the file must not stay open; float32, since norms are folded in it.
    weights = {
        k: v.to(torch.float32 if v.is_floating_point() else v.dtype, copy=True) for k, v in weights.items()
    }
    module.load_state_dict(weights, strict=True, assign=True)
    fold_norms(module.eval().requires_grad_(False))
    return module.to(device=device, dtype=dtype, memory_format=torch.channels_last)


def fold_norms(module: nn.Module) -> None:
    """Puts every batch norm that stands behind a convolution into its weights: same values, less to do."""
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None:
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, nn.Identity())
        fold_norms(child)
        before = (name, child) if isinstance(child, nn.Conv2d) else None


def _read(path: Path, kind: EncoderFile) -> dict[str, Tensor]:
    """Every tensor under its dotted name."""
    remedy = f"download {kind.file} again from {kind.origin}"
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path.name} for {kind.what}; expected {kind.file} from {kind.origin}"
        )
    content = read_pickled(path, remedy)
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds a {type(content).__name__}, not {kind.what}; {remedy}")
    return _flat(content)


def _flat(table: Mapping, prefix: str = "") -> dict[str, Tensor]:
    found = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor):
            found[f"{prefix}{name}"] = value
    return found


def _used(path: Path, kind: EncoderFile, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = {k.removeprefix(kind.prefix): v for k, v in tensors.items() if k.startswith(kind.prefix)}
    if not weights:
        raise ValueError(f"{path.name} {_guess(tensors)}, not {kind.what}; choose {kind.file}")
    known = (kind.prefix, *kind.unused)
    if others := sorted({name.split(".")[0] for name in tensors if not name.startswith(known)}):
        logger.info("%s also holds %s, which is not used", path.name, ", ".join(others[:8]))
    return weights


def _guess(tensors: dict[str, Tensor]) -> str:
    for kind in (DECA, SMIRK):
        if any(name.startswith(kind.prefix) for name in tensors):
            return f"is {kind.what}"
    some = ", ".join(list(tensors)[:3])
    return f"holds other weights ({some})" if some else "holds no weights"


def _check(path: Path, kind: EncoderFile, module: nn.Module, weights: dict[str, Tensor]) -> None:
    expected = module.state_dict()
    again = f"choose the published {kind.file} ({kind.origin})"
    if missing := [name for name in expected if name not in weights]:
        raise ValueError(
            f"{path.name} lacks {len(missing)} of {len(expected)} weights of {kind.what}, the first is "
            f"{kind.prefix}{missing[0]}; {again}"
        )
    if foreign := [name for name in weights if name not in expected]:
        raise ValueError(
            f"{path.name} has {len(foreign)} weights that {kind.what} does not know, the first is "
            f"{kind.prefix}{foreign[0]}; {again}"
        )
    for name, value in expected.items():
        if weights[name].shape != value.shape:
            raise ValueError(
                f"{path.name}: {kind.prefix}{name} is {tuple(weights[name].shape)}, {kind.what} has "
                f"{tuple(value.shape)}; {again}"
            )
        if not bool(weights[name].isfinite().all()):
            raise ValueError(f"{path.name}: {kind.prefix}{name} holds values that are not numbers; {again}")
