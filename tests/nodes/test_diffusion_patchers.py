"""Our networks behind the host's patchers: streamed layer by layer, taken off the device and brought back."""

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy_aimdo.host_buffer
import comfy_aimdo.model_vbar
import pytest
import torch
from golden_model import GOLDEN_CONFIG, golden_model
from magicportrait_pack.nodes import patchers
from torch import nn

CELLS = (16, 8)  # latents: height, width
FRAMES = 3
TOO_LITTLE = 0.1  # bytes: no layer fits


@pytest.fixture
def hosted():
    return patchers.host_model(golden_model())


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


def predict(model, device="cpu") -> torch.Tensor:
    """All three networks in a row, as a sampler uses them."""
    height, width = CELLS
    unit = GOLDEN_CONFIG.pixels_per_cell
    maps = {name: random(FRAMES, 3, unit * height, unit * width).to(device) for name in GOLDEN_CONFIG.maps}
    text, latents = random(1, 7, 16).to(device), random(1, 4, FRAMES, *CELLS).to(device)
    with torch.inference_mode():
        guidance = model.guidance_encoders.model(maps, dict.fromkeys(maps, 1.0)).movedim(0, 1)[None]
        tokens = model.appearance_net.model(latents[:, :, 0], text)
        unet = model.denoising_unet.model
        return torch.stack(unet.forward_pair(latents, 500, unet.condition(tokens, text), guidance))


def test_layers_of_the_host_compute_as_torch(hosted):
    expected = predict(hosted_of_torch_layers())
    assert torch.equal(predict(hosted), expected) and expected.std() > 0.01


def hosted_of_torch_layers():
    model = golden_model()
    plain = [
        comfy.model_patcher.ModelPatcher(network, torch.device("cpu"), torch.device("cpu"))
        for network in (model.appearance_net, model.denoising_unet, model.guidance_encoders)
    ]
    return patchers.HostedModel(model, *plain)


def test_networks_that_do_not_fit_are_streamed_and_give_the_same(hosted):
    expected = predict(hosted)
    for network in hosted.get_models():
        comfy.model_management.load_models_gpu([network])
        network.detach()
        network.partially_load(network.load_device, TOO_LITTLE)
        assert network.loaded_size() == 0 and network.model.model_lowvram
    assert torch.equal(predict(hosted), expected)


def test_half_of_the_network_on_the_device_gives_the_same(hosted):
    expected = predict(hosted)
    network = hosted.denoising_unet
    network.partially_load(network.load_device, network.model_size() / 2)
    assert 0 < network.loaded_size() < network.model_size()
    assert torch.equal(predict(hosted), expected)


def test_no_weight_is_used_but_through_its_layer(hosted):
    """Inputs without data on another device than the weights: any weight that is not brought along fails."""
    for network in hosted.get_models():
        network.partially_load(network.load_device, TOO_LITTLE)
    assert predict(hosted, "meta").shape == (2, 1, 4, FRAMES, *CELLS)
    with pytest.raises((RuntimeError, NotImplementedError)):
        predict(hosted_of_torch_layers(), "meta")


def test_all_weights_are_in_layers_that_stream(hosted):
    for network in hosted.get_models():
        for name, layer in network.model.named_modules():
            assert hasattr(layer, "comfy_cast_weights") or not list(layer.parameters(recurse=False)), name
        assert not list(network.model.buffers())


def test_the_host_takes_a_network_away_and_gives_it_back(hosted):
    loaded = comfy.model_management.loaded_models
    network = hosted.denoising_unet
    patchers.load(network, 0)
    expected = predict(hosted)
    assert network in loaded()
    comfy.model_management.unload_all_models()
    assert network not in loaded()
    patchers.load(network, 0)
    assert network in loaded() and torch.equal(predict(hosted), expected)


def test_unloading_leaves_other_networks(hosted):
    for network in hosted.get_models():
        patchers.load(network, 0)
    patchers.unload(hosted.appearance_net, hosted.guidance_encoders)
    loaded = comfy.model_management.loaded_models()
    assert hosted.denoising_unet in loaded
    assert hosted.appearance_net not in loaded and hosted.guidance_encoders not in loaded
    patchers.unload(hosted.appearance_net)  # twice does no harm


def test_the_host_forgets_networks_that_nobody_holds(hosted):
    patchers.load(hosted.denoising_unet, 0)
    before = len(comfy.model_management.loaded_models())
    network = hosted.denoising_unet.model
    assert isinstance(network, nn.Module)
    del network, hosted
    # pytest's fixture keeps the model until the test has ended; another one goes at once
    other = patchers.host_model(golden_model())
    patchers.load(other.denoising_unet, 0)
    assert len(comfy.model_management.loaded_models()) == before + 1
    del other
    comfy.model_management.cleanup_models_gc()
    assert len([m for m in comfy.model_management.loaded_models() if m is not None]) == before


def test_the_class_of_the_patcher_is_the_hosts_choice(monkeypatch):
    class Chosen(comfy.model_patcher.ModelPatcher):
        pass

    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", Chosen)
    assert all(isinstance(p, Chosen) for p in patchers.host_model(golden_model()).get_models())


class FakeDeviceMemory:
    """In the place of the library that stages weights on CUDA cards; it only counts."""

    def __init__(self, *_):
        self.size = self.staged = 0

    def prioritize(self) -> None: ...

    def alloc(self, size: int) -> tuple:
        self.staged += size
        return ("place", size)

    def loaded_size(self) -> int:
        return 0

    def free_memory(self, size: float) -> int:
        return 0


@pytest.fixture
def dynamic(monkeypatch):
    """The model behind the patchers that NVIDIA cards get, on a device without data."""

    def stage(layers, *_):
        for layer in layers:
            layer._prefetch = {"signature": None}

    def bring(layer, dtype, device, *_):
        return tuple(w if w is None else w.to(device, dtype) for w in (layer.weight, layer.bias))

    monkeypatch.setattr(comfy_aimdo.model_vbar, "ModelVBAR", FakeDeviceMemory)
    monkeypatch.setattr(comfy_aimdo.host_buffer, "HostBuffer", FakeDeviceMemory)
    monkeypatch.setattr(comfy.ops, "cast_modules_with_vbar", stage)
    monkeypatch.setattr(comfy.ops, "resolve_cast_module_with_vbar", bring)
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcherDynamic)
    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: torch.device("meta"))
    return patchers.host_model(golden_model())


def test_dynamic_patchers_stage_large_layers_and_bring_small_ones(dynamic):
    for network in dynamic.get_models():
        assert network.is_dynamic()
        network.partially_load(network.load_device)
        layers = [layer for layer in network.model.modules() if list(layer.parameters(recurse=False))]
        staged = [layer for layer in layers if hasattr(layer, "_v")]
        assert 0 < len(staged) < len(layers)
        assert all(layer.weight.device.type == "cpu" for layer in staged)
        assert all(layer.weight.is_meta for layer in layers if layer not in staged)
        assert sum(s.weight.nbytes for s in staged) <= network.model.dynamic_vbars[network.load_device].staged
    assert predict(dynamic, "meta").shape == (2, 1, 4, FRAMES, *CELLS)


def test_dynamic_patchers_give_the_weights_back(dynamic):
    expected = hosted_of_torch_layers()
    for network, plain in zip(dynamic.get_models(), expected.get_models(), strict=True):
        network.partially_load(network.load_device)
        network.detach()
        assert all(
            torch.equal(a, b)
            for a, b in zip(network.model.parameters(), plain.model.parameters(), strict=True)
        )
