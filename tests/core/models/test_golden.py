"""The released networks' own outputs (tests/golden, facts g), through the classes that users run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from magicportrait_core.models.guidance_encoder import GeometricGuidanceEncoder
from magicportrait_core.models.unet_blocks import frame_positions

TOLERANCE = 3e-5  # measured 2.3e-6 to 1.3e-5, the noise between two versions of torch


def assert_same(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def frames(x: Tensor) -> Tensor:
    """(1, C, F, H, W) as stored -> (F, C, H, W)."""
    return x[0].transpose(0, 1)


def test_guidance_encoder(guidance_encoder, numbers, gradients):
    io = numbers("guidance_encoder_io")
    assert_same(guidance_encoder(frames(io["input"])), frames(io["output"]))


def test_guidance_encoder_around_its_attention(guidance_encoder, numbers, no_grad):
    io = numbers("guidance_encoder_io")
    encoder = GeometricGuidanceEncoder(guidance_encoder.config, 32)
    encoder.load_state_dict(guidance_encoder.state_dict())
    encoder.conv_out = nn.Identity()
    assert_same(encoder(frames(io["input"])), frames(io["after_attention"]))
    nn.init.zeros_(encoder.attentions["5"].proj_out.weight)
    nn.init.zeros_(encoder.attentions["5"].proj_out.bias)
    assert_same(encoder(frames(io["input"])), frames(io["before_attention"]))


@pytest.fixture
def io(numbers) -> dict[str, Tensor]:
    return numbers("unet3d_io")


@pytest.fixture
def predict(denoising_unet, io):
    """The released UNet without a portrait, two clips with a text each."""
    conditioning = denoising_unet.condition(None, io["text"])
    nobody = torch.zeros(2, dtype=torch.bool)

    def run(guidance: Tensor | None) -> Tensor:
        return denoising_unet(io["latents"], io["timestep"], conditioning, guidance, nobody)

    return run


def test_unet_with_guidance(predict, io, gradients):
    assert_same(predict(io["guidance"]), io["output"])


def test_unet_without_guidance(predict, io, no_grad):
    assert_same(predict(None), io["output_without_guidance"])


@pytest.mark.parametrize("block", ["down_blocks.1", "down_blocks.2", "up_blocks.0"])
def test_unet_between_blocks(denoising_unet, predict, io, block, no_grad):
    resampler = "downsamplers.0" if block.startswith("down") else "upsamplers.0"
    seen = []
    module = denoising_unet.get_submodule(f"{block}.{resampler}")
    handle = module.register_forward_hook(lambda module, args, out: seen.append(out))
    try:
        predict(io["guidance"])
    finally:
        handle.remove()
    batch, frames = io["latents"].shape[0], io["latents"].shape[2]
    assert_same(seen[0].unflatten(0, (batch, frames)).transpose(1, 2), io[f"inter.{block}"])


def test_unet_without_motion(denoising_unet, predict, io, no_grad):
    outputs = [module.proj_out for module in denoising_unet.motion_modules()]
    kept = [(layer.weight.clone(), layer.bias.clone()) for layer in outputs]
    try:
        for layer in outputs:
            layer.weight.zero_()
            layer.bias.zero_()
        assert_same(predict(io["guidance"]), io["output_motion_proj_out_zeroed"])
    finally:
        for layer, (weight, bias) in zip(outputs, kept, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)


def test_all_sixteen_layers_of_appearance_tokens(appearance_net, step, gradients):
    tokens = appearance_net(step["ref_latents"], step["text"])
    expected = {name.removeprefix("bank."): v for name, v in step.items() if name.startswith("bank.")}
    assert tokens.keys() == expected.keys() and len(tokens) == 16
    for path, values in tokens.items():
        assert_same(values, expected[path])


# "" is the released rounding of the tokens to float16; one ulp there moves the output by 1e-5
@pytest.mark.parametrize(("rounding", "suffix"), [(torch.float16, ""), (None, "_bank_fp32")])
def test_step_with_the_portrait(denoising_unet, tokens, step, rounding, suffix, gradients):
    conditioning = denoising_unet.condition(tokens, step["text"], round_to=rounding)
    inputs = (step["latents"], step["timestep"], conditioning, step["guidance"])
    assert_same(torch.cat(denoising_unet.forward_pair(*inputs)), step[f"output_cfg{suffix}"])
    assert_same(denoising_unet(*inputs), step[f"output_nocfg{suffix}"])


def test_rounding_the_tokens_matters(denoising_unet, tokens, step, no_grad):
    exact = denoising_unet.condition(tokens, step["text"])
    out = denoising_unet(step["latents"], step["timestep"], exact, step["guidance"])
    assert (out - step["output_nocfg"]).abs().max() > 2 * TOLERANCE


def test_positions_are_the_released_table(numbers):
    tables = {v.shape[-1]: v[0] for k, v in numbers("denoising_unet").items() if k.endswith(".pe")}
    assert len(tables) == 2
    for channels, table in tables.items():
        assert_same(frame_positions(32, channels), table, tolerance=2e-6)
