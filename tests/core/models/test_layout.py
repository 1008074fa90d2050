"""Names and sizes of the networks' tensors at SD 1.5 size; counts are from facts a and c."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel, UNetMotionModel
from torch import nn

from magicportrait_core.models.appearance_net import AppearanceNet
from magicportrait_core.models.config import SD15
from magicportrait_core.models.denoising_unet import DenoisingUNet
from magicportrait_core.models.guidance_encoder import GuidanceEncoders


def parameters_of(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def shapes_of(module: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items()}


@pytest.fixture(autouse=True)
def on_meta():
    with torch.device("meta"):
        yield


def test_denoising_unet_has_the_names_of_diffusers():
    unet = DenoisingUNet(SD15.unet)
    expected = shapes_of(UNetMotionModel(cross_attention_dim=768, use_motion_mid_block=True))
    assert shapes_of(unet) == {k: v for k, v in expected.items() if not k.endswith("pos_embed.pe")}
    assert len(shapes_of(unet)) == 686 + 21 * 26
    assert parameters_of(unet) == 1_312_730_244
    assert parameters_of(*unet.motion_modules()) == 453_209_280
    assert len(unet.motion_modules()) == 21


def test_appearance_net_lacks_the_head_and_what_follows_the_last_tokens():
    net = AppearanceNet(SD15.unet)
    expected = shapes_of(UNet2DConditionModel(cross_attention_dim=768))
    assert shapes_of(net).items() <= expected.items()
    missing = expected.keys() - shapes_of(net).keys()
    head = {name for name in missing if name.startswith("conv_")}
    assert len(head) == 4 and len(missing - head) == 20
    assert all(name.startswith("up_blocks.3.attentions.2.") for name in missing - head)
    assert parameters_of(net) == 859_508_800 - 2_442_240


def test_guidance_encoders_have_the_live_tensors_only():
    encoders = GuidanceEncoders(SD15)
    assert list(encoders) == ["depth", "normal", "render"]
    for encoder in encoders.values():
        assert len(shapes_of(encoder)) == 35
        assert parameters_of(encoder) == 2_270_736


@pytest.mark.parametrize("network", [DenoisingUNet, AppearanceNet])
def test_no_state_beside_the_weights(network):
    net = network(SD15.unet)
    assert list(net.buffers()) == []


def test_weights_can_be_assigned():
    unet = DenoisingUNet(SD15.unet)
    state = {name: torch.empty_like(value, dtype=torch.float16) for name, value in unet.state_dict().items()}
    unet.load_state_dict(state, assign=True)
    assert unet.dtype == torch.float16
