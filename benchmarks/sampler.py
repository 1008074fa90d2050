"""One window and step with classifier-free guidance: our Denoising UNet against plain diffusers.

    python scripts/host.py run -m benchmarks.sampler [--size toy half full] [--precision fp32] [--cells 32]

Both sides have the same weights, inputs, process and memory settings, and take turns. The plain side is
diffusers' UNetMotionModel with motion norms per frame and the guidance added behind conv_in; its batch holds
two full halves, unconditional and conditional, and its self-attentions repeat the portrait's tokens for every
frame and step, behind the frame's own. "released" attends like the released code: with the portrait for both
halves, then once more without it for the unconditional one. "plain" leaves that detour out.

Seconds are processor time of one thread, the fastest of the rounds (on CUDA: time until the device is done).
Peak is what is allocated beside weights and inputs; ours includes the portrait's keys and values, which are
kept for the clip. Differences are to the first row. Size "full" is that of SD 1.5.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import diffusers
import torch
import torch.nn.functional as F
from diffusers import UNetMotionModel
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from magicportrait_core.models.appearance_net import AppearanceNet, AppearanceTokens
from magicportrait_core.models.config import UNetConfig
from magicportrait_core.models.denoising_unet import DenoisingUNet

SIZES = {
    "toy": UNetConfig(
        block_out_channels=(16, 16, 32, 32), layers_per_block=1, heads=2, motion_heads=2, norm_groups=8
    ),
    "half": UNetConfig(block_out_channels=(160, 320, 640, 640)),
    "full": UNetConfig(),
}
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
FRAMES, TIMESTEP = 12, 501
MIB = 2**20
# Else each large tensor is fresh memory from the system, and page faults take longer than the arithmetic.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}
Step = Callable[[], Tensor]  # (2, C, W, h, w) unconditional and conditional


@dataclass(frozen=True)
class Inputs:
    """What a window-step gets, besides the weights."""

    latents: Tensor  # (1, C, W, h, w)
    guidance: Tensor  # (1, E, W, h, w)
    text: Tensor  # (1, N, D)
    tokens: AppearanceTokens

    def to(self, device: torch.device, dtype: torch.dtype) -> Inputs:
        tokens = {path: value.to(device, dtype) for path, value in self.tokens.items()}
        return Inputs(*(x.to(device, dtype) for x in (self.latents, self.guidance, self.text)), tokens)


def random_inputs(config: UNetConfig, cells: int) -> Inputs:
    latents = torch.randn(1, config.latent_channels, FRAMES, cells, cells)
    guidance = torch.randn(1, config.block_out_channels[0], FRAMES, cells, cells)
    text = torch.randn(1, 77, config.text_dim)
    with torch.device("meta"):
        shapes = AppearanceNet(config)(latents[:, :, 0].to("meta"), text.to("meta"))
    return Inputs(latents, guidance, text, {path: torch.randn(token.shape) for path, token in shapes.items()})


def random_weights(network: nn.Module) -> nn.Module:
    """Weights that keep the scale of what goes through, also where training starts with zeros."""
    for name, weight in network.requires_grad_(False).eval().named_parameters():
        if weight.ndim > 1:
            weight.normal_(std=weight[0].numel() ** -0.5)
        else:
            weight.normal_(mean=float("norm" in name and name.endswith("weight")), std=0.1)
    return network


def our_step(unet: DenoisingUNet, inputs: Inputs) -> tuple[Step, int]:
    """And the bytes of what is kept for the clip."""
    conditioning = unet.condition(inputs.tokens, inputs.text)
    kept = sum(x.nbytes for kv in conditioning.reference.values() for x in kv)
    return lambda: torch.cat(unet.forward_pair(inputs.latents, TIMESTEP, conditioning, inputs.guidance)), kept


def diffusers_step(unet: DenoisingUNet, inputs: Inputs, detour: bool) -> Step:
    """The plain implementation, on the weights of `unet`."""
    plain = diffusers_unet(unet)
    for path, tokens in inputs.tokens.items():
        plain.get_submodule(path).attn1.set_processor(ConcatenatingAttention(tokens, detour))
    guidance = inputs.guidance[0].transpose(0, 1).repeat(2, 1, 1, 1)
    plain.conv_in.register_forward_hook(lambda module, args, out: out + guidance)
    latents, text = inputs.latents.repeat(2, 1, 1, 1, 1), inputs.text.repeat(2 * FRAMES, 1, 1)
    return lambda: plain(latents, TIMESTEP, encoder_hidden_states=text, return_dict=False)[0]


def diffusers_unet(unet: DenoisingUNet) -> UNetMotionModel:
    """With motion modules that normalise each frame by itself, as the released ones do."""
    config, levels = unet.config, len(unet.config.block_out_channels)
    with torch.device("meta"):
        plain = UNetMotionModel(
            in_channels=config.latent_channels,
            out_channels=config.latent_channels,
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            down_block_types=("CrossAttnDownBlockMotion",) * (levels - 1) + ("DownBlockMotion",),
            up_block_types=("UpBlockMotion",) + ("CrossAttnUpBlockMotion",) * (levels - 1),
            norm_num_groups=config.norm_groups,
            cross_attention_dim=config.text_dim,
            num_attention_heads=config.heads,
            motion_num_attention_heads=config.motion_heads,
            motion_max_seq_length=config.max_frames,
            use_motion_mid_block=True,
        )
    tables = {  # of frame numbers; ours are computed in each pass
        name: sinusoids(*buffer.shape[1:])[None].to(unet.conv_in.weight)
        for name, buffer in plain.state_dict().items()
        if name.endswith("pos_embed.pe")
    }
    plain.load_state_dict({**unet.state_dict(), **tables}, strict=True, assign=True)
    for block in (*plain.down_blocks, plain.mid_block, *plain.up_blocks):
        for motion in block.motion_modules:
            motion.norm = NormPerFrame(motion.norm)
    return plain.eval()


def sinusoids(frames: int, channels: int) -> Tensor:  # (frames, channels)
    """sin(frame r) on even channels, cos(frame r) on odd ones, r = 10000 ** (-channel / channels)."""
    angles = torch.arange(frames)[:, None] / 10000 ** (torch.arange(0, channels, 2) / channels)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class NormPerFrame(nn.Module):
    def __init__(self, norm: nn.GroupNorm):
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:  # (B, C, F, h, w)
        frames = self.norm(x.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (len(x), -1)).transpose(1, 2)


class ConcatenatingAttention:
    """An attention processor: the conditional half of the batch sees the portrait's tokens behind its own."""

    def __init__(self, tokens: Tensor, detour: bool):
        self.tokens = tokens  # (1, L, C)
        self.detour = detour

    def __call__(self, attention, x: Tensor, *_, **__) -> Tensor:  # (2 W, L, C)
        unconditional, conditional = x.chunk(2)
        if not self.detour:
            seen = self.attend(attention, conditional, self.with_portrait(conditional))
            return torch.cat([self.attend(attention, unconditional, unconditional), seen])
        out = self.attend(attention, x, self.with_portrait(x))
        out[: len(unconditional)] = self.attend(attention, unconditional, unconditional)
        return out

    def with_portrait(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.tokens.repeat(len(x), 1, 1)], dim=1)

    @staticmethod
    def attend(attention, x: Tensor, to: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for part in (attention.to_q(x), attention.to_k(to), attention.to_v(to))
        )
        return attention.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def seconds(step: Step, device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    finish = torch.cuda.synchronize if device.type == "cuda" else contextlib.nullcontext
    finish()
    begin = clock()
    step()
    finish()
    return clock() - begin


def with_peak(step: Step, device: torch.device) -> tuple[Tensor, int]:
    """What `step` returns, and the most bytes that were allocated at a time, beyond those before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return step(), torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        output = step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    return output, max(accumulate((change for _, change in changes), initial=0))


@torch.inference_mode()
def compare(name: str, cells: int, precisions: list[str], rounds: int, device: torch.device) -> None:
    torch.manual_seed(0)
    config = SIZES[name]
    unet, inputs = random_weights(DenoisingUNet(config)), random_inputs(config, cells)
    count = sum(weight.numel() for weight in unet.parameters())
    print(f"\n{name}: {count / 1e6:.1f} M weights, {FRAMES} frames of {cells}x{cells} cells")
    steps: dict[str, Step] = {}
    kept: dict[str, int] = {}
    for precision in precisions:
        dtype = PRECISIONS[precision]
        inputs_there = inputs.to(device, dtype)
        unet_there = unet.to(device, dtype) if precision == precisions[-1] else copied(unet, device, dtype)
        for detour, label in ((True, "released"), (False, "plain")):
            steps[f"{label} {precision}"] = diffusers_step(unet_there, inputs_there, detour)
        steps[f"ours {precision}"], kept[f"ours {precision}"] = our_step(unet_there, inputs_there)

    outputs, peaks = {}, {}
    for label, step in steps.items():  # also the first round, not timed
        output, peak = with_peak(step, device)
        outputs[label], peaks[label] = output.float(), peak + kept.get(label, 0)
    times = {label: [] for label in steps}
    for _ in range(rounds):
        for label, step in steps.items():
            times[label].append(seconds(step, device))

    print("                  seconds   ratio   peak MiB   ratio   max difference")
    first, *_ = steps
    for label in steps:
        spent, peak = min(times[label]), peaks[label]
        difference = (outputs[label] - outputs[first]).abs().max().item()
        print(
            f"  {label:14}{spent:9.3f}{spent / min(times[first]):8.2f}{peak / MIB:11.1f}"
            f"{peak / peaks[first]:8.2f}{difference:17.1e}"
        )
    other = replace(inputs_there, tokens={path: -tokens for path, tokens in inputs_there.tokens.items()})
    unlike = (our_step(unet_there, other)[0]().float() - outputs[first]).abs().max().item()
    print(
        f"  deviation of the output {outputs[first].std():.2f}, difference with another portrait {unlike:.1e}"
    )


def copied(unet: DenoisingUNet, device: torch.device, dtype: torch.dtype) -> DenoisingUNet:
    with torch.device("meta"):
        copy = DenoisingUNet(unet.config)
    copy.load_state_dict(
        {k: v.to(device, dtype, copy=True) for k, v in unet.state_dict().items()}, assign=True
    )
    return copy.eval()


def keep_memory() -> None:
    """Start again with the settings of KEEP_MEMORY, which the C library reads when a process starts."""
    if sys.platform == "linux" and not KEEP_MEMORY.keys() <= os.environ.keys():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **KEEP_MEMORY})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["toy", "half"])
    parser.add_argument(
        "--cells", type=int, default=32, help="height and width of the latents; 32 is 256 pixels"
    )
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, {options.device}")
    for name in options.size:
        compare(name, options.cells, options.precision, options.rounds, options.device)


if __name__ == "__main__":
    main()
