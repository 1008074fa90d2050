"""What training needs of the networks: gradients where they belong, the same with checkpointing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toy_model import TOY, randomise

from magicportrait_core.models.appearance_net import AppearanceNet
from magicportrait_core.models.denoising_unet import DenoisingUNet

SIZE = (16, 16)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def without_gradient(module: nn.Module) -> list[str]:
    return [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.fixture
def networks() -> tuple[AppearanceNet, DenoisingUNet]:
    generator = torch.Generator().manual_seed(0)
    return randomise(AppearanceNet(TOY.unet), generator), randomise(DenoisingUNet(TOY.unet), generator)


def loss_of(networks: tuple[AppearanceNet, DenoisingUNet]) -> Tensor:
    """A training step: two clips at two noise levels, one of them without its portrait."""
    appearance_net, unet = networks
    text = randn(1, 7, TOY.unet.text_dim)
    conditioning = unet.condition(appearance_net(randn(2, 4, *SIZE), text), text)
    v = unet(
        randn(2, 4, 3, *SIZE, seed=1),
        torch.tensor([40, 700]),
        conditioning,
        guidance=randn(2, 16, 3, *SIZE, seed=2),
        reads_reference=torch.tensor([True, False]),
    )
    return (v - randn(*v.shape, seed=3)).square().mean()


def test_gradients_reach_every_parameter_of_both(networks):
    loss_of(networks).backward()
    for network in networks:
        assert without_gradient(network) == []


def test_gradients_reach_what_is_trained_and_nothing_else(networks):
    appearance_net, unet = networks
    appearance_net.requires_grad_(False)
    unet.requires_grad_(False)
    trained = nn.ModuleList(unet.motion_modules()).requires_grad_(True)
    loss_of(networks).backward()
    assert without_gradient(trained) == []
    reached = {name for name, p in unet.named_parameters() if p.grad is not None}
    assert reached and all("motion_modules" in name for name in reached)
    assert all(p.grad is None for p in appearance_net.parameters())


def test_fresh_motion_modules_learn_from_their_output_on():
    unet = DenoisingUNet(TOY.unet)
    for module in unet.motion_modules():
        assert not module.proj_out.weight.any() and not module.proj_out.bias.any()
    loss_of((AppearanceNet(TOY.unet), unet)).backward()
    for module in unet.motion_modules():
        assert module.proj_out.weight.grad.any()


def test_checkpointing_gives_the_same_gradients(networks):
    expected_loss = loss_of(networks)
    expected_loss.backward()
    expected = [[p.grad for p in network.parameters()] for network in networks]
    for network in networks:
        network.zero_grad(set_to_none=True)
        network.enable_gradient_checkpointing()
    loss = loss_of(networks)
    loss.backward()
    torch.testing.assert_close(loss, expected_loss)
    for network, gradients in zip(networks, expected, strict=True):
        for (name, p), gradient in zip(network.named_parameters(), gradients, strict=True):
            torch.testing.assert_close(p.grad, gradient, msg=name)


def test_checkpointing_keeps_less(networks):
    def kept() -> int:
        seen: dict[int, int] = {}

        def note(x: Tensor) -> Tensor:
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        alive = []  # or freed addresses are counted as one
        with torch.autograd.graph.saved_tensors_hooks(lambda x: alive.append(x) or note(x), lambda x: x):
            loss_of(networks)
        return sum(seen.values())

    whole = kept()
    for network in networks:
        network.enable_gradient_checkpointing()
    assert kept() < whole / 2
