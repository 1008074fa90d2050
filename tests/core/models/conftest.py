"""The released networks at toy size, with the golden weights; and the golden numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from magicportrait_core.checkpoints.key_maps import (
    APPEARANCE_NET,
    DENOISING_UNET,
    GUIDANCE_ENCODER,
    KeyMap,
)
from magicportrait_core.models.appearance_net import AppearanceNet
from magicportrait_core.models.config import GuidanceEncoderConfig, ModelConfig, UNetConfig
from magicportrait_core.models.denoising_unet import DenoisingUNet
from magicportrait_core.models.guidance_encoder import GeometricGuidanceEncoder

Numbers = dict[str, Tensor]

GOLDEN = ModelConfig(
    name="golden",
    unet=UNetConfig(block_out_channels=(32, 64, 32, 32), text_dim=16),
    guidance=GuidanceEncoderConfig(block_out_channels=(16, 32, 32, 32)),
)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """At toy size a second thread gains nothing, and on a busy machine the two wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def numbers(golden: Path) -> Callable[[str], Numbers]:
    """Tensors of a golden file; those stored compactly become float32 again, exactly."""

    def read(name: str) -> Numbers:
        state = load_file(golden / f"{name}.safetensors")
        return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}

    return read


def _load(module: nn.Module, state: Numbers, keys: KeyMap) -> nn.Module:
    module.load_state_dict(keys.translate(state), strict=True)
    return module.requires_grad_(False)


@pytest.fixture(scope="session")
def denoising_unet(numbers) -> DenoisingUNet:
    return _load(DenoisingUNet(GOLDEN.unet), numbers("denoising_unet"), DENOISING_UNET)


@pytest.fixture(scope="session")
def appearance_net(numbers) -> AppearanceNet:
    return _load(AppearanceNet(GOLDEN.unet), numbers("reference_unet"), APPEARANCE_NET)


@pytest.fixture(scope="session")
def guidance_encoder(numbers) -> GeometricGuidanceEncoder:
    encoder = GeometricGuidanceEncoder(GOLDEN.guidance, GOLDEN.unet.block_out_channels[0])
    return _load(encoder, numbers("guidance_encoder_depth"), GUIDANCE_ENCODER)


@pytest.fixture(scope="session")
def step(numbers) -> Numbers:
    """One step of the released pipeline: portrait, text, latents and guidance in, predictions out."""
    return numbers("full_step_io")


@pytest.fixture(scope="session")
def tokens(appearance_net: AppearanceNet, step: Numbers) -> Numbers:
    with torch.no_grad():
        return appearance_net(step["ref_latents"], step["text"])


@pytest.fixture(params=[False, True], ids=["inference", "training"])
def gradients(request):
    """Both ways the networks compute: in slices and in place, or differentiable."""
    with torch.set_grad_enabled(request.param):
        yield request.param


@pytest.fixture
def no_grad():
    with torch.no_grad():
        yield
