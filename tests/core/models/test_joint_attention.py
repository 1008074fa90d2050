"""The shared keys of a clip: merged or concatenated in chunks, always what one plain softmax gives."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from magicportrait_core.models import joint_attention
from magicportrait_core.models.joint_attention import OPERATORS, attend, attend_with_shared

CPU = torch.device("cpu")
HEADS = 2
LOOSE = {torch.float16: 4e-3, torch.bfloat16: 3e-2}  # a few units in the last place


def inputs(head_dim: int, clips: int = 1, frames: int = 3, own: int = 12, shared: int = 20) -> list[Tensor]:
    """q, k, v, shared_k, shared_v, with heads beside features in memory as projections give them."""
    generator = torch.Generator().manual_seed(head_dim)
    shapes = [(clips * frames, own)] * 3 + [(clips, shared)] * 2
    return [
        1.5 * torch.randn(*shape, HEADS, head_dim, generator=generator).transpose(1, 2) for shape in shapes
    ]


def plain(q: Tensor, k: Tensor, v: Tensor, shared_k: Tensor, shared_v: Tensor) -> Tensor:
    """Every frame gets a copy of its clip's keys."""
    each = len(q) // len(shared_k)
    both_k = torch.cat([k, shared_k.repeat_interleave(each, 0)], dim=2)
    both_v = torch.cat([v, shared_v.repeat_interleave(each, 0)], dim=2)
    return (q @ both_k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ both_v


@pytest.fixture(autouse=True)
def forget_verdicts():
    yield
    joint_attention._operator_for.cache_clear()


@pytest.fixture(params=["merged", "concatenated"])
def path(request, monkeypatch):
    """Both ways; without an operator for the device keys are concatenated."""
    if request.param == "concatenated":
        replace_operators(monkeypatch)
    else:
        assert joint_attention._operator_for(CPU, torch.float32, 8) is not None


def replace_operators(monkeypatch, *operators) -> None:
    monkeypatch.setitem(OPERATORS, "cpu", operators)
    joint_attention._operator_for.cache_clear()


def test_equal_scores_weigh_by_the_number_of_keys():
    q = torch.zeros(2, 1, 1, 4)
    v, shared_v = torch.zeros(2, 1, 1, 4), torch.ones(1, 1, 3, 4)
    out = attend_with_shared(q, torch.randn(2, 1, 1, 4), v, torch.randn(1, 1, 3, 4), shared_v)
    torch.testing.assert_close(out, torch.full_like(q, 3 / 4))  # one own key says 0, three shared ones say 1


@pytest.mark.parametrize("head_dim", [4, 5, 8, 40, 80, 160])
@pytest.mark.parametrize("clips", [1, 2])
def test_equals_concatenation(path, head_dim, clips):
    tensors = inputs(head_dim, clips)
    torch.testing.assert_close(attend_with_shared(*tensors), plain(*tensors), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [8, 40])
def test_half_precision(path, dtype, head_dim):
    tensors = [t.to(dtype) for t in inputs(head_dim)]
    out = attend_with_shared(*tensors)
    assert out.dtype == dtype
    expected = plain(*(t.float() for t in tensors))
    assert (out.float() - expected).norm() / expected.norm() < LOOSE[dtype]


def test_any_memory_layout(path):
    tensors = inputs(8, clips=2, own=7)
    expected = plain(*tensors)
    layouts = (
        lambda t: t.contiguous(),
        lambda t: t.mT.contiguous().mT,  # features are not the last axis in memory
        lambda t: torch.stack([t, t], dim=2).unbind(2)[1],
    )
    for change in layouts:
        torch.testing.assert_close(attend_with_shared(*map(change, tensors)), expected, rtol=0, atol=1e-5)


def test_inputs_stay_as_they_are(path):
    tensors = inputs(8)
    copies = [t.clone() for t in tensors]
    with torch.inference_mode():
        attend_with_shared(*tensors)
    assert all(torch.equal(t, copy) for t, copy in zip(tensors, copies, strict=True))


@pytest.mark.parametrize("trained", ["q", "k", "v", "shared_k", "shared_v"])
def test_gradients_are_those_of_concatenation(trained):
    results = []
    for function in (attend_with_shared, plain):
        tensors = dict(zip(("q", "k", "v", "shared_k", "shared_v"), inputs(8, clips=2), strict=True))
        tensors[trained].requires_grad_()
        function(*tensors.values()).square().sum().backward()
        results.append(tensors[trained].grad)
    torch.testing.assert_close(*results, rtol=0, atol=1e-4)
    assert results[0].abs().max() > 0.01


def test_concatenation_is_bounded(monkeypatch):
    replace_operators(monkeypatch)
    tensors = inputs(8, clips=2, frames=5)
    one_frame = 2 * HEADS * (12 + 20) * 8 * 4  # keys and values of both kinds, float32
    monkeypatch.setattr(joint_attention, "CHUNK_BYTES", 2 * one_frame)
    seen = []

    def watched(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append(len(k))
        return F.scaled_dot_product_attention(q, k, v)

    monkeypatch.setattr(joint_attention, "attend", watched)
    torch.testing.assert_close(attend_with_shared(*tensors), plain(*tensors), rtol=0, atol=1e-5)
    assert seen == [2, 2, 1] * 2


def test_attend_splits_what_is_too_large(monkeypatch):
    q, k, v = inputs(8)[:3]
    expected = F.scaled_dot_product_attention(q, k, v)
    monkeypatch.setattr(joint_attention, "_rows_at_once", lambda q, k: 2)
    torch.testing.assert_close(attend(q, k, v), expected)


def test_other_frame_counts_are_named():
    q, k, v, shared_k, shared_v = inputs(8, clips=2)
    with pytest.raises(ValueError, match="5 frames .* 2 clips"):
        attend_with_shared(q[:5], k[:5], v[:5], shared_k, shared_v)


def correct(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


def missing(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    raise RuntimeError("no kernel image is available for execution on the device")


def base_two(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    out, lse = correct(q, k, v)
    return out, lse / math.log(2)


def unscaled(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    out, _ = correct(q, k, v)
    return out, (q @ k.mT).logsumexp(-1)


def without_lse(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    out, lse = correct(q, k, v)
    return out, torch.zeros_like(lse)


def padded(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    out, lse = correct(q, k, v)
    return out, F.pad(lse, (0, -lse.shape[-1] % 32))


def not_finite(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    out, lse = correct(q, k, v)
    return out * math.nan, lse


@pytest.mark.parametrize("wrong", [missing, base_two, unscaled, without_lse, padded, not_finite])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_self_test_rejects_a_wrong_operator(monkeypatch, wrong, dtype):
    for head_dim in (8, 40, 160):
        assert joint_attention._passes_self_test(correct, CPU, dtype, head_dim)
        assert not joint_attention._passes_self_test(wrong, CPU, dtype, head_dim)
    replace_operators(monkeypatch, wrong)
    tensors = inputs(8)
    torch.testing.assert_close(attend_with_shared(*tensors), plain(*tensors), rtol=0, atol=1e-5)
    replace_operators(monkeypatch, wrong, correct)
    assert joint_attention._operator_for(CPU, dtype, 8) is correct


def test_too_little_memory_is_no_verdict():
    def full(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        joint_attention._passes_self_test(full, CPU, torch.float32, 8)


@pytest.mark.parametrize("tokens", [5, 64])
def test_attention_and_its_gradient_are_those_of_the_fused_operator(tokens):
    """With gradients the CPU takes the plain formula."""
    generator = torch.Generator().manual_seed(tokens)
    q, k, v = (torch.randn(2, 3, tokens, 8, generator=generator).requires_grad_() for _ in range(3))
    found = attend(q, k, v)
    expected = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(out.square().sum(), (q, k, v)) for out in (found, expected)]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
