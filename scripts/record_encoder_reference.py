"""Records what torchvision's ResNet-50 and timm's MobileNetV3 say, with weights that follow a formula.

    python scripts/record_encoder_reference.py tests/golden/encoders_io.safetensors

Needs timm (recorded with 1.0.31; the names are the same in 0.6.13). Random weights would be too big to keep,
so every weight is a function of its name and place; tests give the same weights to our modules.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Mapping

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

FEATURES = 960, 55  # of the backbone, of SMIRK's expression layer
NOISE, STRETCH = 12.9898, 43758.5453  # a well-known hash by sine


def noise(name: str, shape: torch.Size) -> Tensor:
    """Numbers in 0..1 that depend on the name and the place only."""
    place = torch.arange(math.prod(shape), dtype=torch.float64)
    return (torch.sin(place * NOISE + zlib.crc32(name.encode()) % 1000) * STRETCH).frac().abs().reshape(shape)


def formula_weight(name: str, like: Tensor) -> Tensor:
    """A weight of believable size: norms near one, everything else so that activations keep theirs."""
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    values = noise(name, like.shape)
    if name.endswith("running_var"):
        values = values + 0.5
    elif like.ndim == 1 and name.endswith("weight"):
        values = 0.8 + 0.4 * values
    elif like.ndim == 1:
        values = 0.2 * values - 0.1
    else:
        values = (2 * values - 1) * math.sqrt(6 / like[0].numel())
    return values.to(like.dtype)


def formula_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: formula_weight(name, value) for name, value in state.items()}


def formula_pictures() -> Tensor:  # (2, 3, 224, 224) 0..1
    """Noise, and the same under a shade that grows to the right."""
    plain = noise("pictures", torch.Size((3, 224, 224)))
    return torch.stack((plain, plain * torch.linspace(0, 1, 224, dtype=torch.float64))).float()


@torch.no_grad()
def main(target: str) -> None:
    import timm
    from torchvision.models import resnet50

    encoder = resnet50(weights=None)
    encoder.fc = nn.Identity()
    layers = nn.Sequential(nn.Linear(2048, 1024), nn.ReLU(), nn.Linear(1024, 236))
    backbone = timm.create_model("tf_mobilenetv3_large_minimal_100", pretrained=False, features_only=True)
    expression = nn.Sequential(nn.Linear(*FEATURES))
    deca = nn.ModuleDict({"encoder": encoder, "layers": layers}).eval()
    smirk = nn.ModuleDict({"encoder": backbone, "expression_layers": expression}).eval()
    for module in (deca, smirk):
        module.load_state_dict(formula_state(module.state_dict()))
    pictures = formula_pictures()
    features = backbone(pictures)[-1].mean((2, 3))
    values = {"deca": layers(encoder(pictures)), "smirk": expression(features), "smirk_features": features}
    software = f"timm {timm.__version__}, torch {torch.__version__}"
    save_file(values, target, {"made by": "scripts/record_encoder_reference.py", "with": software})
    print({name: (tuple(v.shape), float(v.std())) for name, v in values.items()})


if __name__ == "__main__":
    main(sys.argv[1])
