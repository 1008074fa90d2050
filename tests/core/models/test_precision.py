"""Half precisions run on any device and stay close to float32."""

from __future__ import annotations

import copy

import pytest
import torch

# Relative to the size of the output. Their mantissas have 10 and 7 bits, so one rounding errs by up to 5e-4
# and 4e-3, and about a hundred layers follow one another. Measured: at most 4.4e-3 and 3.6e-2.
PRECISIONS = [(torch.float16, 0.01), (torch.bfloat16, 0.08)]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_step_in_half_precision(denoising_unet, appearance_net, step, dtype, tolerance, no_grad):
    appearance_net, unet = (copy.deepcopy(net).to(dtype) for net in (appearance_net, denoising_unet))
    latents, text, guidance = (step[name].to(dtype) for name in ("latents", "text", "guidance"))
    tokens = appearance_net(step["ref_latents"].to(dtype), text)
    pair = unet.forward_pair(latents, int(step["timestep"]), unet.condition(tokens, text), guidance)
    expected = step["output_cfg_bank_fp32"]
    assert pair[0].dtype == dtype
    error = (torch.cat(pair).float() - expected).norm() / expected.norm()
    assert error < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_guidance_encoder_in_half_precision(guidance_encoder, numbers, dtype, tolerance, no_grad):
    io = numbers("guidance_encoder_io")
    maps, expected = (io[name][0].transpose(0, 1) for name in ("input", "output"))
    features = copy.deepcopy(guidance_encoder).to(dtype)(maps.to(dtype))
    assert features.dtype == dtype
    assert (features.float() - expected).norm() / expected.norm() < tolerance


def test_half_precision_network_takes_tokens_and_text_of_another(denoising_unet, tokens, step, no_grad):
    conditioning = copy.deepcopy(denoising_unet).half().condition(tokens, step["text"])
    values = [*conditioning.text.values(), *conditioning.reference.values()]
    assert {x.dtype for kv in values for x in kv} == {torch.float16}
