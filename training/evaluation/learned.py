"""Measures whose networks others trained: LPIPS, CSIM, FID, FVD. Nothing is ever downloaded.

The libraries are imported when a measure is asked for, and their weights have to lie where the libraries keep
them already. What is missing becomes a sentence, and the measure a gap in the table.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from magicportrait_core.media.image import resize
from training.evaluation.footage import pictures
from training.evaluation.pictures import mean

LEARNED = ("lpips", "csim", "fid", "fvd")
ALEXNET = "alexnet-owt-7be5be79.pth"  # torchvision's, what lpips stands on
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"  # torch-fidelity's
FVD_SIDE, FVD_FRAMES = 224, 16  # pixels and frames that the I3D network reads
FRAMES_AT_ONCE = 8

PairMetric = Callable[[Tensor, Tensor], float]  # output and truth or portrait, (F, 3, H, W) uint8 -> mean
Features = Callable[[Tensor], Tensor]  # (F, 3, H, W) uint8 -> (N, D), (0, 0) of too short a clip


class Missing(Exception):
    """What a measure needs and is not here."""


@dataclass(frozen=True)
class LearnedMetrics:
    """Those that can be computed here."""

    lpips: PairMetric | None = None
    csim: PairMetric | None = None
    features: dict[str, Features] = field(default_factory=dict)  # of "fid" and "fvd"
    notes: tuple[str, ...] = ()  # a sentence for each that cannot

    @classmethod
    def load(
        cls, names: Sequence[str], device: torch.device | str = "cpu", fvd_weights: Path | None = None
    ) -> LearnedMetrics:
        """Everything asked for whose library and weights are here."""
        makers: dict[str, Callable[[], Any]] = {
            "lpips": lambda: _lpips(device),
            "csim": _csim,
            "fid": lambda: _inception(device),
            "fvd": lambda: _i3d(fvd_weights, device),
        }
        made, notes = {}, []
        for name in names:
            try:
                made[name] = makers[name]()
            except Missing as error:
                notes.append(f"{name.upper()} not computed: needs {error}")
        features = {name: made[name] for name in ("fid", "fvd") if name in made}
        return cls(made.get("lpips"), made.get("csim"), features, tuple(notes))

    def of_output(self, output: Tensor, truth: Tensor | None, portrait: Tensor) -> dict[str, float]:
        """lpips against the truth, csim against the portrait (3, H, W)."""
        metrics = {}
        if self.lpips is not None and truth is not None:
            metrics["lpips"] = self.lpips(output, truth)
        if self.csim is not None:
            metrics["csim"] = self.csim(output, portrait[None])
        return metrics


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Between the Gaussians of two sets of features (N, D), by torch-fidelity; NaN for fewer than 2 rows."""
    if min(len(first), len(second)) < 2:
        return math.nan
    from torch_fidelity import metric_fid

    statistics = [metric_fid.fid_features_to_statistics(features.double()) for features in (first, second)]
    return float(metric_fid.fid_statistics_to_metric(*statistics, verbose=False)[metric_fid.KEY_METRIC_FID])


def _lpips(device: torch.device | str) -> PairMetric:
    library = _library("lpips", "LPIPS (pip install lpips)")
    _weights(Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET, "torchvision's AlexNet")
    network = library.LPIPS(net="alex", verbose=False).eval().to(device)

    @torch.no_grad()
    def metric(output: Tensor, truth: Tensor) -> float:
        parts = zip(output.split(FRAMES_AT_ONCE), truth.split(FRAMES_AT_ONCE), strict=True)
        pairs = [[(x.float() / 127.5 - 1).to(device) for x in part] for part in parts]
        return float(torch.cat([network(*pair).flatten().cpu() for pair in pairs]).mean())

    return metric


def _csim() -> PairMetric:
    library = _library(
        "face_recognition",
        "face_recognition (pip install face_recognition; it compiles dlib, dlib-bin is ready made)",
    )

    def encoding(frame: Tensor) -> Tensor | None:
        found = library.face_encodings(frame.movedim(0, -1).contiguous().numpy())
        return torch.as_tensor(found[0]) if found else None

    def metric(output: Tensor, portrait: Tensor) -> float:
        own = encoding(portrait[0])
        seen = [encoding(frame) for frame in output] if own is not None else []
        return mean([float(torch.cosine_similarity(own, code, dim=0)) for code in seen if code is not None])

    return metric


def _inception(device: torch.device | str) -> Features:
    _library("torch_fidelity", "torch-fidelity (pip install torch-fidelity)")
    path = _weights(Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION, "torch-fidelity's Inception")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
    ).to(device)

    @torch.no_grad()
    def features(frames: Tensor) -> Tensor:
        return torch.cat([network(part.to(device))[0].float().cpu() for part in frames.split(FRAMES_AT_ONCE)])

    return features


def _i3d(weights: Path | None, device: torch.device | str) -> Features:
    """The TorchScript I3D that video models are usually compared with; pieces of FVD_FRAMES frames."""
    _library("torch_fidelity", "torch-fidelity (pip install torch-fidelity)")
    if weights is None:
        raise Missing("the I3D network as TorchScript (--fvd-weights i3d_torchscript.pt)")
    try:
        network = torch.jit.load(str(_weights(weights, "the I3D network")), map_location=device).eval()
    except RuntimeError as error:
        raise Missing(f"the I3D network as TorchScript; {weights} is none") from error

    @torch.no_grad()
    def features(frames: Tensor) -> Tensor:
        starts = range(0, len(frames) - FVD_FRAMES + 1, FVD_FRAMES)
        pieces = (_video(frames[i : i + FVD_FRAMES]).to(device) for i in starts)
        codes = [network(piece, rescale=False, resize=False, return_features=True) for piece in pieces]
        return torch.cat([code.float().cpu() for code in codes]) if codes else torch.zeros(0, 0)

    return features


def _video(frames: Tensor) -> Tensor:  # (1, 3, F, 224, 224) in [-1, 1]
    small = [resize(picture, (FVD_SIDE, FVD_SIDE), "bilinear") for picture in pictures(frames)]
    return torch.stack(small, dim=1)[None]


def _library(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Missing(what) from error
    except SystemExit as error:  # face_recognition ends the program where its models are missing
        raise Missing(f"{what} with its models") from error


def _weights(path: Path, what: str) -> Path:
    if not path.is_file():
        raise Missing(f"{what} at {path}")
    return path
