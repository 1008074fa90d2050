"""How far a small model's correction can be trusted, by head turn and by where the warp has its pixels from.

A clip drives a frame of its own, so the truth is known. Where the model adds a to a warp that is off by d,
the factor f = sum(a d) / sum(a a) makes sum((d - f a)^2) smallest: 1 is a correction that is right as it is,
0 one that says nothing, below 0 one that does harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from magicportrait_core.alignment import head_rotation, neutral_frame
from magicportrait_core.correction import believed, corrected, enlarged_within
from magicportrait_core.face_view import ViewedWarp, face_view
from magicportrait_core.models.model import MagicPortraitModel
from magicportrait_core.pipeline import decode_clip
from magicportrait_core.render_options import ReenactOptions
from magicportrait_core.trust import JUDGED, Trust
from magicportrait_core.warp.options import WarpOptions
from magicportrait_core.warp.sources import FILLED, MOUTH, OUTSIDE, SOURCES
from magicportrait_core.warped_portrait import WarpedPortrait
from training.evaluation.footage import Footage, Tools
from training.evaluation.pictures import psnr, ssim_map
from training.evaluation.scene import network_latents, self_scene

EDGES = (0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 180.0)  # degrees of head turn
EVERY = 3  # of a clip's frames is compared; its neighbours say nearly the same
FEWEST_CLIPS = 3  # that a bin needs before anything in it is trusted
FAR = WarpOptions(max_turn=90.0, max_yaw=90.0)  # the truth turns as far as it does
BLUR = 2  # pixels around each, twice: a control, which only takes contrast away
PREVIEW, BLURRED, LIMITED, KEPT, TRUSTED = "preview", "blurred preview", "limits", "contrast kept", "trusted"


@dataclass
class Sums:
    """What one clip says; add() takes frames."""

    # (turns, labels, 4): pixels, sum(a a), sum(a d), sum(d d) over pixels and channels, levels squared
    squares: Tensor = field(
        default_factory=lambda: torch.zeros(len(EDGES) - 1, len(SOURCES), 4, dtype=torch.float64)
    )
    kept: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))  # sum(a b), sum(b b)
    gains: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # method -> PSNR dB, SSIM

    def add(self, warped: WarpedPortrait, picture: Tensor, truth: Tensor, trust: Trust) -> None:
        """One frame: its warp, the network's picture in [-1, 1] at the working size, the truth in levels."""
        warp = warped.warp_levels.float()[0]
        pictures = methods(warped, picture, trust)
        added, off = (x.double() - warp for x in (pictures[KEPT], truth))
        turn = next(i for i, edge in enumerate(EDGES[1:]) if float(warped.turn) < edge)
        for label in range(len(SOURCES)):
            where = warped.labels[0, 0] == label
            a, d = added[:, where], off[:, where]
            self.squares[turn, label] += torch.stack(
                (where.sum().double(), (a * a).sum(), (a * d).sum(), (d * d).sum())
            )
        limited = pictures[LIMITED].double() - warp
        self.kept += torch.stack(((added * limited).sum(), (limited * limited).sum()))
        where = _head(warped.labels)[0, 0].bool()
        for name, shown in pictures.items():
            levels = shown.round().clamp(0, 255).to(torch.uint8)
            value = psnr(levels, truth, where), float(ssim_map(levels, truth)[where].mean())
            self.gains.setdefault(name, []).append(value)


def methods(warped: WarpedPortrait, picture: Tensor, trust: Trust) -> dict[str, Tensor]:  # (3, H, W) levels
    """What is compared: the warp, a blur of it, the network within its limits of colour, the same with the
    warp's contrast kept, and as far as it is trusted, which is what people get."""
    small = warped.resized(tuple(picture.shape[-2:]))
    warp, below = (x.warp_levels / 127.5 - 1 for x in (warped, small))
    inside, head = _head(warped.labels), _head(small.labels)
    limited = enlarged_within(head * (believed(picture[None], below, small.labels) - below), head, inside)
    blurred = warp
    for _ in range(2):
        blurred = functional.avg_pool2d(blurred, 2 * BLUR + 1, 1, BLUR, count_include_pad=False)
    shown = {
        PREVIEW: warp[0],
        BLURRED: torch.lerp(warp, blurred, inside)[0],
        LIMITED: (warp + limited)[0],
        KEPT: corrected(warped, picture, None),
        TRUSTED: corrected(warped, picture, trust),
    }
    return {name: (x.clamp(-1, 1) + 1) * 127.5 for name, x in shown.items()}


def measure_clip(
    clip: Footage,
    model: MagicPortraitModel,
    tools: Tools,
    trust: Trust,
    on_stage: Callable[[str], None],
) -> Sums:
    """The clip from its most frontal frame, and from the one whose head is turned furthest from that."""
    sums = Sums()
    for chosen in ends(clip):
        scene = self_scene(clip.name, clip, tools, on_stage, FAR, chosen)
        view = face_view(tools.head, scene.request.track)
        warped, truth = ViewedWarp(scene.warped, view), view.cut(scene.truth)
        pictures = decode_clip(network_latents(scene, model, tools, ReenactOptions()), model)
        for i, picture in enumerate(pictures):
            if i in scene.counted[::EVERY]:
                sums.add(warped[i : i + 1], picture, truth[i], trust)
    return sums


def ends(clip: Footage) -> list[int]:
    """The most frontal frame, and the one that is turned furthest from it; one where they are the same."""
    front = neutral_frame(clip.track[0], clip.track, absolute_rotation=True)
    nose = head_rotation(clip.track)[..., 2]
    away = torch.where(clip.track.found, nose @ nose[front], torch.ones(clip.track.num_frames))
    return list(dict.fromkeys((front, int(away.argmin()))))


def factor(squares: Tensor) -> float:
    """f of sums (..., 4); NaN where nothing was added."""
    _, own, along, _ = squares.reshape(-1, 4).sum(0).tolist()
    return along / own if own > 0 else math.nan


def interval(clips: Sequence[Tensor]) -> tuple[float, float]:
    """The smallest and the largest f when each of the clips (..., 4) is left out once."""
    values = [factor(sum(clips) - clip) for clip in clips]
    values = [value for value in values if value == value]
    return (min(values), max(values)) if values else (math.nan, math.nan)


def table_of(sums: Mapping[str, Sums]) -> Trust:
    """The table that the measurement supports: in each bin the smallest f with one clip left out, at most 1,
    0 with fewer than FEWEST_CLIPS, and no more than at any smaller turn. Rounded down to hundredths.

    The inside of a mouth is made up whichever way the head turns: its f is that of all turns.
    """
    shares = {}
    for label in JUDGED:
        row, most = [], 1.0
        for turn in range(len(EDGES) - 1):
            clips = [one.squares[turn, label] for one in sums.values() if one.squares[turn, label, 1] > 0]
            enough = len(clips) >= FEWEST_CLIPS
            if label == MOUTH:
                clips = [one.squares[:, label].sum(0) for one in sums.values()]
            most = min(most, max(0.0, interval(clips)[0])) if enough else 0.0
            row.append(math.floor(100 * most) / 100)
        shares[label] = tuple(row)
    middles = [(low + min(high, 40.0)) / 2 for low, high in pairwise(EDGES)]
    return Trust(tuple(middles), shares)


def report(sums: Mapping[str, Sums]) -> str:
    """Markdown: factors with their intervals by turn and label, what each method gains, and every clip."""
    names = [SOURCES[label] for label in JUDGED]
    lines = [f"| turn | {' | '.join(names)} | head |", "|---|" + "---:|" * (len(names) + 1)]
    for turn, (low, high) in enumerate(pairwise(EDGES)):
        cells = [_cell([one.squares[turn, label] for one in sums.values()]) for label in JUDGED]
        cells.append(_cell([one.squares[turn][list(JUDGED)] for one in sums.values()]))
        lines.append(f"| {low:g} to {high:g} | {' | '.join(cells)} |")
    lines += ["", "| | head PSNR, dB | head SSIM |", "|---|---:|---:|"]
    for name in (PREVIEW, BLURRED, LIMITED, KEPT, TRUSTED):
        lines.append(f"| {name} | {_gain(sums, name, 0, 2)} | {_gain(sums, name, 1, 4)} |")
    share = sum(one.kept for one in sums.values())
    lines += [
        "",
        f"Keeping contrast leaves {float(share[0] / share[1]):.2f} of what is within the limits.",
        "",
    ]
    lines += ["| clip | frames | preview, dB | contrast kept | f |", "|---|---:|---:|---:|---:|"]
    for name, one in sums.items():
        before, after = (_mean([value[0] for value in one.gains[key]]) for key in (PREVIEW, KEPT))
        cells = f"{len(one.gains[PREVIEW])} | {before:.2f} | {after - before:+.2f}"
        lines.append(f"| {name} | {cells} | {factor(one.squares[:, list(JUDGED)]):.2f} |")
    return "\n".join(lines) + "\n"


def _cell(clips: Sequence[Tensor]) -> str:
    clips = [clip for clip in clips if float(clip.reshape(-1, 4)[:, 1].sum()) > 0]
    if not clips:
        return "-"
    low, high = interval(clips)
    return f"{factor(sum(clips)):.2f} ({low:.2f} to {high:.2f}), {len(clips)}"


def _gain(sums: Mapping[str, Sums], name: str, which: int, digits: int) -> str:
    """Mean over clips of a method; beside it the difference to the preview with its standard error."""

    def means(key: str) -> Tensor:
        return torch.tensor([_mean([value[which] for value in one.gains[key]]) for one in sums.values()])

    values, base = means(name), means(PREVIEW)
    text = f"{float(values.mean()):.{digits}f}"
    if name == PREVIEW:
        return text
    difference = values - base
    error = float(difference.std() / len(difference) ** 0.5) if len(difference) > 1 else math.nan
    return f"{text} ({float(difference.mean()):+.{digits}f} ± {error:.{digits}f})"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _head(labels: Tensor) -> Tensor:  # 0 or 1
    return ((labels != OUTSIDE) & (labels != FILLED)).float()
