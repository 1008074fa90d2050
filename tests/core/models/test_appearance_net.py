"""Facts about AppearanceNet that hold for any weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_tokens_have_a_place_per_cell(appearance_net, no_grad):
    tokens = appearance_net(randn(1, 4, 24, 16), randn(1, 7, 16))
    assert [tokens[f"down_blocks.{i}.attentions.0.transformer_blocks.0"].shape for i in range(3)] == [
        (1, 24 * 16, 32),
        (1, 12 * 8, 64),
        (1, 6 * 4, 32),
    ]
    assert tokens["mid_block.attentions.0.transformer_blocks.0"].shape == (1, 3 * 2, 32)


def test_layers_are_those_of_the_denoising_unet(appearance_net, denoising_unet):
    paths = [path for path, _ in denoising_unet.transformers()]
    assert [path for path, _ in appearance_net.transformers()] == paths and len(paths) == 16


def test_portraits_together_are_portraits_alone(appearance_net, gradients):
    portraits, text = randn(2, 4, 24, 16), randn(2, 7, 16, seed=1)
    together = appearance_net(portraits, text)
    for i in range(2):
        alone = appearance_net(portraits[i : i + 1], text[i : i + 1])
        for path, tokens in together.items():
            torch.testing.assert_close(tokens[i : i + 1], alone[path], rtol=0, atol=5e-5)


def test_one_text_serves_all_portraits(appearance_net, no_grad):
    portraits, text = randn(2, 4, 24, 16), randn(1, 7, 16)
    shared, repeated = appearance_net(portraits, text), appearance_net(portraits, text.expand(2, -1, -1))
    for path, tokens in shared.items():
        torch.testing.assert_close(tokens, repeated[path], rtol=0, atol=5e-5)


def test_the_text_is_read(appearance_net, no_grad):
    first, second = (appearance_net(randn(1, 4, 24, 16), randn(1, 7, 16, seed=i)) for i in range(2))
    changed = [path for path in first if not torch.allclose(first[path], second[path], atol=1e-3)]
    assert changed == list(first)[1:]  # the first tokens lie before the first text


@pytest.mark.parametrize(
    ("latents", "text", "message"),
    [
        (randn(1, 4, 20, 16), randn(1, 7, 16), "20 x 16 cells.*multiples of 8"),
        (randn(1, 8, 24, 16), randn(1, 7, 16), "C = 4.*VAE"),
        (randn(1, 4, 1, 24, 16), randn(1, 7, 16), "expected \\(B C h w\\)"),
        (randn(3, 4, 24, 16), randn(2, 7, 16), "2 texts for 3 portraits"),
        (randn(1, 4, 24, 16), randn(2, 7, 16), "2 texts for 1 portraits"),
    ],
)
def test_bad_inputs(appearance_net, latents, text, message):
    with pytest.raises(ValueError, match=message):
        appearance_net(latents, text)


def test_nothing_is_built_behind_the_last_tokens():
    """A UNet without attention at its finest level: its last up level would serve no token."""
    from magicportrait_core.models.appearance_net import AppearanceNet
    from magicportrait_core.models.config import SMALL

    net = AppearanceNet(SMALL.unet)
    tokens = net(randn(1, 48, 8, 8), randn(1, 1, 16))
    sum(value.sum() for value in tokens.values()).backward()
    assert [name for name, value in net.named_parameters() if value.grad is None] == []
    assert len(net.up_blocks) == 2 and net.up_blocks[1].upsamplers is None
