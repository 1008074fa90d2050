"""The host's patchers for our networks: they move weights to the device, stream them, and take them back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.model_patcher
import comfy.ops
from torch import nn

from . import host
from .sockets import HostedModel

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..magicportrait_core.models.model import MagicPortraitModel

# The host's layers compute as torch's do, and can leave their weights on the CPU until they are called.
STREAMED = {
    nn.Linear: comfy.ops.disable_weight_init.Linear,
    nn.Conv2d: comfy.ops.disable_weight_init.Conv2d,
    nn.GroupNorm: comfy.ops.disable_weight_init.GroupNorm,
    nn.LayerNorm: comfy.ops.disable_weight_init.LayerNorm,
}


def host_model(model: MagicPortraitModel) -> HostedModel:
    """The model with a patcher for each network, on the CPU until they are needed."""
    return HostedModel(
        model, patcher(model.appearance_net), patcher(model.denoising_unet), patcher(model.guidance_encoders)
    )


def patcher(network: nn.Module) -> ModelPatcher:
    # The host chooses the class when it starts, so the name is looked up here and not imported.
    return comfy.model_patcher.CoreModelPatcher(
        streamed(network.eval().requires_grad_(False)),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def streamed(network: nn.Module) -> nn.Module:
    """The same network, its layers turned into the host's."""
    for layer in network.modules():
        layer.__class__ = STREAMED.get(type(layer), type(layer))
    return network


def load(network: ModelPatcher, working_bytes: int) -> nn.Module:
    """The network, ready to compute on `network.load_device` with room for `working_bytes` beside it.

    How much of it lies on the device is the host's decision; the rest is streamed.
    """
    comfy.model_management.load_models_gpu([network], memory_required=working_bytes)
    return network.model


@contextmanager
def cancellable(network: nn.Module) -> Iterator[nn.Module]:
    """While inside, every layer looks at the cancel button first: a batch of windows may take long."""
    layers = [module for module in network.modules() if next(module.children(), None) is None]
    hooks = [layer.register_forward_pre_hook(_stop_if_cancelled) for layer in layers]
    try:
        yield network
    finally:
        for hook in hooks:
            hook.remove()


def _stop_if_cancelled(*_: object) -> None:
    host.check_cancelled()


def unload(*networks: ModelPatcher) -> None:
    """Takes networks off the device that are not needed in the next minutes."""
    for network in networks:
        comfy.model_management.unload_model_and_clones(network, all_devices=True)


def free_bytes(network: ModelPatcher) -> int:
    """Memory of the network's device that activations may take."""
    free = network.get_free_memory(network.load_device)
    # A dynamic patcher counts its weights as free, since it would stream them; that would be slower.
    return int(max(0, free - network.model_size() if network.is_dynamic() else free))
