"""Facts about the Denoising UNet that hold for any weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from magicportrait_core.models import denoising_unet as denoising_unet_file
from magicportrait_core.models import unet as unet_file
from magicportrait_core.models.appearance_net import AppearanceNet
from magicportrait_core.models.denoising_unet import DenoisingUNet

SIZE = (24, 16)  # the golden networks are chaotic with fewer than 6 cells at the deepest level
TIME = 501


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5)  # outputs are about 1


def assert_different(actual: Tensor, expected: Tensor) -> None:
    assert (actual - expected).abs().max() > 1e-2


def conditioning_of(net: DenoisingUNet, appearance_net: AppearanceNet, seed: int, clips: int = 1):
    text = randn(1, 7, 16, seed=seed)
    return net.condition(appearance_net(randn(clips, 4, *SIZE, seed=seed), text), text)


@pytest.fixture(scope="module")
def portrait(denoising_unet, appearance_net):
    with torch.no_grad():
        return conditioning_of(denoising_unet, appearance_net, seed=1)


@pytest.fixture(scope="module")
def two_portraits(denoising_unet, appearance_net):
    with torch.no_grad():
        return conditioning_of(denoising_unet, appearance_net, seed=2, clips=2)


@pytest.fixture(scope="module")
def still_unet(denoising_unet) -> DenoisingUNet:
    """Motion modules as at the start of their training."""
    net = copy.deepcopy(denoising_unet)
    for module in net.motion_modules():
        module.proj_out.weight.zero_()
        module.proj_out.bias.zero_()
    return net


@pytest.fixture
def small_slices(monkeypatch):
    """Slices of one frame, and of one line of cells in motion modules."""
    for file in (unet_file, denoising_unet_file):
        monkeypatch.setattr(file, "TOKENS_AT_ONCE", 1)


# The portrait


def test_pair_is_the_network_without_and_with_the_portrait(denoising_unet, portrait, gradients):
    latents, guidance = randn(2, 4, 3, *SIZE), randn(2, 32, 3, *SIZE, seed=1)
    unconditional, conditional = denoising_unet.forward_pair(latents, TIME, portrait, guidance)
    nobody = torch.zeros(2, dtype=torch.bool)
    without = denoising_unet.condition(None, randn(1, 7, 16, seed=1))
    assert_same(unconditional, denoising_unet(latents, TIME, portrait, guidance, nobody))
    assert_same(unconditional, denoising_unet(latents, TIME, without, guidance, nobody))
    assert_same(conditional, denoising_unet(latents, TIME, portrait, guidance))
    assert_different(conditional, unconditional)


def test_portrait_that_equals_the_frame_adds_nothing(still_unet, no_grad):
    # A softmax over each key twice is the softmax over each key once.
    appearance_net = AppearanceNet(still_unet.config)
    own = still_unet.state_dict()
    appearance_net.load_state_dict({name: own[name] for name in appearance_net.state_dict()})
    picture, text = randn(1, 4, *SIZE), randn(1, 7, 16)
    conditioning = still_unet.condition(appearance_net(picture, text), text)
    unconditional, conditional = still_unet.forward_pair(picture[:, :, None], 0, conditioning)
    assert_same(conditional, unconditional)
    unconditional, other = still_unet.forward_pair(picture[:, :, None], 501, conditioning)
    assert_different(other, unconditional)  # noise level 501 is not the portrait's


def test_each_window_reads_its_portrait_or_none(denoising_unet, two_portraits, gradients):
    latents, guidance = randn(2, 4, 3, *SIZE), randn(2, 32, 3, *SIZE, seed=1)
    times = torch.tensor([17, 901])
    together = denoising_unet(
        latents, times, two_portraits, guidance, reads_reference=torch.tensor([True, False])
    )
    for i, reads in enumerate([True, False]):
        one = slice(i, i + 1)
        alone = denoising_unet(
            latents[one],
            int(times[i]),
            two_portraits.at([i]),
            guidance[one],
            reads_reference=torch.tensor([reads]),
        )
        assert_same(together[one], alone)


def test_pair_of_two_clips(denoising_unet, two_portraits, gradients):
    latents = randn(2, 4, 3, *SIZE)
    pair = denoising_unet.forward_pair(latents, TIME, two_portraits)
    for i in range(2):
        alone = denoising_unet.forward_pair(latents[i : i + 1], TIME, two_portraits.at([i]))
        for half in range(2):
            assert_same(pair[half][i : i + 1], alone[half])


# Windows and frames


def test_windows_together_are_windows_one_by_one(denoising_unet, portrait, no_grad):
    latents, guidance = randn(3, 4, 2, *SIZE), randn(3, 32, 2, *SIZE, seed=1)
    together = denoising_unet(latents, TIME, portrait, guidance)
    for i in range(3):
        one = slice(i, i + 1)
        assert_same(together[one], denoising_unet(latents[one], TIME, portrait, guidance[one]))


def test_frames_are_independent_without_motion(still_unet, denoising_unet, portrait, no_grad):
    latents = randn(1, 4, 4, *SIZE)
    changed = latents.clone()
    changed[:, :, 2] += 1
    others = [0, 1, 3]
    still = [still_unet(x, TIME, portrait) for x in (latents, changed)]
    assert_same(still[1][:, :, others], still[0][:, :, others])
    assert_different(still[1][:, :, 2], still[0][:, :, 2])
    moving = [denoising_unet(x, TIME, portrait) for x in (latents, changed)]
    assert_different(moving[1][:, :, others], moving[0][:, :, others])


def test_motion_modules_normalise_each_frame_by_itself(denoising_unet, portrait, no_grad):
    net = copy.deepcopy(denoising_unet)
    for module in net.motion_modules():  # silence the attentions: norms and feed-forwards remain
        for attention in (module.transformer_blocks[0].attn1, module.transformer_blocks[0].attn2):
            attention.to_out[0].weight.zero_()
    latents = randn(1, 4, 3, *SIZE)
    alone = net(latents[:, :, :1], TIME, portrait)
    assert_same(net(latents, TIME, portrait)[:, :, :1], alone)
    assert_different(denoising_unet(latents, TIME, portrait)[:, :, :1], alone)


@pytest.mark.parametrize("frames", [1, 32])
def test_windows_of_one_frame_and_of_the_longest_table(denoising_unet, portrait, frames, no_grad):
    out = denoising_unet(randn(1, 4, frames, *SIZE), TIME, portrait)
    assert out.shape == (1, 4, frames, *SIZE) and out.isfinite().all()


def test_a_fresh_network_sees_frames_alone(denoising_unet, portrait, no_grad):
    torch.manual_seed(0)
    fresh = DenoisingUNet(denoising_unet.config)
    conditioning = fresh.condition(None, randn(1, 7, 16))
    latents, nobody = randn(1, 4, 2, *SIZE), torch.zeros(1, dtype=torch.bool)
    out = fresh(latents, TIME, conditioning, reads_reference=nobody)
    alone = fresh(latents[:, :, 1:], TIME, conditioning, reads_reference=nobody)
    assert_same(out[:, :, 1:], alone)
    assert out.std() > 0.01


# How it computes


@pytest.mark.parametrize("clips", [1, 2])
def test_slices_do_not_matter(denoising_unet, portrait, two_portraits, clips, no_grad, request):
    latents, guidance = randn(2, 4, 3, *SIZE), randn(2, 32, 3, *SIZE, seed=1)
    conditioning = portrait if clips == 1 else two_portraits
    whole = denoising_unet.forward_pair(latents, TIME, conditioning, guidance)
    request.getfixturevalue("small_slices")
    sliced = denoising_unet.forward_pair(latents, TIME, conditioning, guidance)
    for a, b in zip(sliced, whole, strict=True):
        assert_same(a, b)


def test_nothing_that_is_passed_in_changes(denoising_unet, portrait, no_grad):
    latents, guidance = randn(1, 4, 2, *SIZE), randn(1, 32, 2, *SIZE, seed=1)
    inputs = [latents, guidance, *(x for kv in portrait.reference.values() for x in kv)]
    before = [x.clone() for x in inputs]
    first = denoising_unet.forward_pair(latents, TIME, portrait, guidance)
    again = denoising_unet.forward_pair(latents, TIME, portrait, guidance)
    for a, b in zip([*inputs, *first], [*before, *again], strict=True):
        assert torch.equal(a, b)


def test_every_layer_is_used_by_being_called(denoising_unet, portrait, tokens, no_grad):
    # What a host that streams or casts single layers relies on.
    called = set()
    layers = {name for name, m in denoising_unet.named_modules() if list(m.parameters(recurse=False))}
    handles = [
        denoising_unet.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
        for name in layers
    ]
    denoising_unet.condition(tokens, randn(1, 7, 16))
    denoising_unet(randn(1, 4, 2, *SIZE), TIME, portrait)
    for handle in handles:
        handle.remove()
    assert called == layers


# Bad input


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (dict(latents=randn(1, 4, 33, *SIZE)), "33 frames.*1 to 32"),
        (dict(latents=randn(1, 4, 2, 24, 12)), "24 x 12 cells.*multiples of 8.*64 pixels"),
        (dict(latents=randn(1, 16, 2, *SIZE)), "C = 4.*VAE"),
        (dict(latents=randn(4, 2, *SIZE)), "expected \\(B C W h w\\)"),
        (dict(guidance=randn(1, 32, 3, *SIZE)), "guidance has shape \\(1, 32, 3, 24, 16\\)"),
        (dict(guidance=randn(1, 32, 2, 8, 8)), "expected \\(1, 32, 2, 24, 16\\)"),
        (dict(timestep=torch.tensor([1, 2])), "2 timesteps for 1 windows"),
        (dict(reads_reference=torch.tensor([True, True])), "2 entries for 1 windows"),
    ],
)
def test_bad_inputs(denoising_unet, portrait, inputs, message):
    usual = dict(latents=randn(1, 4, 2, *SIZE), timestep=TIME, conditioning=portrait)
    with pytest.raises(ValueError, match=message):
        denoising_unet(**usual | inputs)


def test_conditioning_of_another_number_of_clips(denoising_unet, two_portraits):
    with pytest.raises(ValueError, match="2 clips for 3 windows"):
        denoising_unet(randn(3, 4, 2, *SIZE), TIME, two_portraits)


def test_text_of_another_encoder(denoising_unet, appearance_net):
    for width in (1024, 2048):
        with pytest.raises(ValueError, match=f"77, {width}.*CLIP-L"):
            denoising_unet.condition(None, randn(1, 77, width))
        with pytest.raises(ValueError, match=f"77, {width}.*CLIP-L"):
            appearance_net(randn(1, 4, *SIZE), randn(1, 77, width))


def test_another_number_of_texts_than_portraits(denoising_unet, appearance_net):
    tokens = appearance_net(randn(3, 4, *SIZE), randn(1, 7, 16))
    with pytest.raises(ValueError, match="2 texts for 3 portraits"):
        denoising_unet.condition(tokens, randn(2, 7, 16))


def test_tokens_of_another_network(denoising_unet, tokens):
    fewer = dict(list(tokens.items())[1:])
    with pytest.raises(ValueError, match="15 layers.*has 16.*same model folder"):
        denoising_unet.condition(fewer, randn(1, 7, 16))


def test_reading_without_a_portrait(denoising_unet):
    conditioning = denoising_unet.condition(None, randn(1, 7, 16))
    with pytest.raises(ValueError, match="no portrait"):
        denoising_unet(randn(1, 4, 2, *SIZE), TIME, conditioning)
