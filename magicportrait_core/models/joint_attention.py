"""Attention to a frame's own tokens and the portrait's together, the portrait's being kept once per clip.

Softmax over two sets of keys is a weighted mean of the softmax over each of them; the weights follow from the
two log-sum-exps (facts/PERFORMANCE.md 2, item 7; the same identity that FlashAttention uses between tiles):

    both = (1 - w) own + w shared,    w = sigmoid(lse_shared - lse_own)

So neither keys nor values are concatenated or repeated, and the shared part is one attention of all frames'
queries. torch's fused operators return the log-sum-exp, but not publicly: each is compared with the plain
formula before its first use on a device. Where none passes, and where gradients are needed (the operators do
not differentiate the log-sum-exp), keys are concatenated for a few frames at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Operator = Callable[
    [Tensor, Tensor, Tensor], tuple[Tensor, Tensor]
]  # q, k, v -> output, log-sum-exp (B, H, L)

LARGEST_BATCH = 2**15  # CUDA kernels count the batch in 16 bits
CHUNK_BYTES = 2**28  # concatenated keys and values, or scores on devices that keep them
TOLERANCE = {torch.float32: 2e-3, torch.float16: 5e-3, torch.bfloat16: 3e-2}  # relative; TF32 may be on

log = logging.getLogger("magicportrait")


def attend(
    q: Tensor,  # (B, H, L, D)
    k: Tensor,  # (B, H, M, D)
    v: Tensor,  # (B, H, M, D)
) -> Tensor:  # (B, H, L, D)
    """Scaled dot-product attention, in parts where the batch is too large for the device at once."""
    if _plain_is_faster(q, k, v):
        return _plain(q, k, v)
    rows = _rows_at_once(q, k)
    if len(q) <= rows:
        return F.scaled_dot_product_attention(q, k, v)
    parts = zip(q.split(rows), k.split(rows), v.split(rows), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*part) for part in parts])


def attend_with_shared(
    q: Tensor,  # (clips*W, H, L, D), the frames of a clip side by side
    k: Tensor,  # (clips*W, H, M, D) own keys of each frame
    v: Tensor,  # (clips*W, H, M, D)
    shared_k: Tensor,  # (clips, H, N, D) keys that all frames of a clip share
    shared_v: Tensor,  # (clips, H, N, D)
) -> Tensor:  # (clips*W, H, L, D)
    """Attention of each frame's queries to its own keys and its clip's shared keys, in one softmax."""
    if len(q) % len(shared_k):
        raise ValueError(f"{len(q)} frames do not divide among the shared keys of {len(shared_k)} clips")
    tensors = (q, k, v, shared_k, shared_v)
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return _concatenated(*tensors)
    operator = _operator_for(q.device, q.dtype, q.shape[-1])
    return _concatenated(*tensors) if operator is None else _merged(operator, *tensors)


def _merged(
    operator: Operator, q: Tensor, k: Tensor, v: Tensor, shared_k: Tensor, shared_v: Tensor
) -> Tensor:
    """Two attentions, weighted by their log-sum-exps."""
    clips = len(shared_k)
    frames = (clips, len(q) // clips)
    own, own_lse = operator(q, k, v)
    # All frames of a clip are one list of queries; a view where heads lie beside features in memory.
    queries = q.unflatten(0, frames).transpose(1, 2).flatten(2, 3)  # (clips, H, W*L, D)
    shared, shared_lse = operator(queries, shared_k, shared_v)
    shared = shared.unflatten(2, (frames[1], -1)).transpose(1, 2)  # (clips, W, H, L, D)
    shared_lse = shared_lse.unflatten(2, (frames[1], -1)).transpose(1, 2)
    weight = torch.sigmoid(shared_lse - own_lse.unflatten(0, frames)).to(q.dtype)
    own.unflatten(0, frames).lerp_(shared, weight.unsqueeze(-1))
    return own


def _concatenated(q: Tensor, k: Tensor, v: Tensor, shared_k: Tensor, shared_v: Tensor) -> Tensor:
    """The plain formula, for as many frames at a time as CHUNK_BYTES allows; differentiable."""
    clips = len(shared_k)
    keys = k.shape[2] + shared_k.shape[2]
    if clips == len(q) and q[:, :, :, 0].numel() * keys * q.element_size() <= CHUNK_BYTES:
        return attend(q, torch.cat([k, shared_k], dim=2), torch.cat([v, shared_v], dim=2))
    rows = max(1, CHUNK_BYTES // (2 * k[0, :, 0].numel() * keys * k.element_size()))
    parts = []
    for clip in zip(*(t.chunk(clips) for t in (q, k, v)), shared_k, shared_v, strict=True):
        for q_part, k_part, v_part in zip(*(t.split(rows) for t in clip[:3]), strict=True):
            both_k, both_v = (
                torch.cat([own, shared.expand(len(own), -1, -1, -1)], dim=2)
                for own, shared in ((k_part, clip[3]), (v_part, clip[4]))
            )
            parts.append(attend(q_part, both_k, both_v))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _plain_is_faster(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """On the CPU the fused operator's gradient takes twice the time of two products of matrices (measured at
    64 and 256 tokens in bf16)."""
    wanted = q.device.type == "cpu" and torch.is_grad_enabled()
    scores = q[:, :, :, 0].numel() * k.shape[2] * q.element_size()
    return wanted and any(t.requires_grad for t in (q, k, v)) and scores <= CHUNK_BYTES


def _plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return scores.softmax(dim=-1).to(v.dtype) @ v


def _rows_at_once(q: Tensor, k: Tensor) -> int:
    if q.device.type == "cuda":
        return LARGEST_BATCH
    if q.device.type == "mps":  # no fused kernel: the scores are kept
        return max(1, CHUNK_BYTES // (q.shape[1] * q.shape[2] * k.shape[2] * q.element_size()))
    return len(q)


# The operators behind scaled_dot_product_attention that also return the log-sum-exp. ROCm is "cuda" too.


def _cpu_flash(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*map(_dense, (q, k, v)))


def _cuda_flash(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Half precisions, D a multiple of 8 up to 256."""
    return torch.ops.aten._scaled_dot_product_flash_attention(*map(_dense, (q, k, v)))[:2]


def _cuda_efficient(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Float32 too; pads the log-sum-exp to a multiple of 32 queries."""
    out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        *map(_dense, (q, k, v)), attn_bias=None, compute_log_sumexp=True
    )
    return out, lse[:, :, : q.shape[2]]


def _dense(x: Tensor) -> Tensor:
    """Called directly, the operators take the last axis for dense without looking."""
    return x if x.stride(-1) == 1 else x.contiguous()


OPERATORS: dict[str, tuple[Operator, ...]] = {"cpu": (_cpu_flash,), "cuda": (_cuda_flash, _cuda_efficient)}


@lru_cache(maxsize=256)
def _operator_for(device: torch.device, dtype: torch.dtype, head_dim: int) -> Operator | None:
    """The first of the device's operators that passes the self-test, for all later calls of the process."""
    operators = OPERATORS.get(device.type, ())
    for operator in operators:
        if _passes_self_test(operator, device, dtype, head_dim):
            return operator
    if operators:
        log.info("no fused attention on %s in %s with %d features a head", device, dtype, head_dim)
    return None


def _passes_self_test(operator: Operator, device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether merging with this operator gives what concatenation gives, on a small example.

    Unequal numbers of keys, queries that are no multiple of a kernel's block, and sharp scores make a
    logarithm of another base, a missing scale or a wrong order show.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 37), (6, 37), (6, 37), (2, 11), (2, 11)]  # 2 clips of 3 frames

    def example(batch: int, tokens: int) -> Tensor:
        values = 2 * torch.randn(batch, tokens, 2, head_dim, generator=generator)
        return values.to(device, dtype).transpose(1, 2)

    with torch.no_grad():
        tensors = [example(*shape) for shape in shapes]
        expected = _concatenated(*(t.float() for t in tensors))
        try:
            error = (_merged(operator, *tensors).float() - expected).norm() / expected.norm()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # not built for this device, precision or head size
            return False
    return bool(error < TOLERANCE.get(dtype, 0.0))
