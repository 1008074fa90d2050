"""The ugliness suite: what strangers' portraits and clips look like with default settings, measured.

Reading order: ugliness_media (inputs) -> this file (one pair: track, align, render, measure) ->
ugliness_seen, ugliness_openings, ugliness_turn, ugliness_pixels (measures) -> ugliness_goals (table) ->
ugliness_sheet (pictures to look at).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from magicportrait_core.alignment import Alignment, align, seen_rotation
from magicportrait_core.media.image import load_image, resize
from magicportrait_core.models.model import MagicPortraitModel
from magicportrait_core.render_options import ReenactOptions, output_size
from magicportrait_core.tracking.track import FaceTrack
from training.evaluation.footage import Footage, OnStage, Tools, levels, read_clip
from training.evaluation.pairs import Pair
from training.evaluation.results import Measured, PairResults
from training.evaluation.run import OnPair, unfinished
from training.evaluation.scene import Scene, aligned_scene, network_frames
from training.evaluation.store import spread
from training.evaluation.table import Row
from training.evaluation.ugliness_goals import PREVIEW, SMALL, faults
from training.evaluation.ugliness_openings import (
    HeadRange,
    Openings,
    lid_error,
    lid_range,
    lip_error,
    lip_range,
    widest,
)
from training.evaluation.ugliness_pixels import changed_outside, contrast_ratio, face_oval, people_in
from training.evaluation.ugliness_seen import Seen, amplitudes, box_of, look_at
from training.evaluation.ugliness_sheet import face_square, telling_frames, write_sheet
from training.evaluation.ugliness_turn import Turns

TRACKED = 120  # frames of a driver's clip that are tracked, about: close enough to what users get
OPENS = 0.2  # share of the range of a driver's mouth that is open
SHUT = 0.4  # of the driver's share: a mouth that opens less does not open
SHEET = "sheet.png"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Suite:
    """What is run on every pair, and where the results go."""

    output: Path
    tools: Tools
    model: MagicPortraitModel | None  # None: the preview alone
    frames: int = 24  # spread evenly over the driver's clip

    def run(self, pairs: Sequence[Pair], on_pair: OnPair) -> tuple[list[Row], list[str]]:
        """Return a row for every pair and renderer, and a sentence for every pair that could not be made.

        Pairs of one driver follow one another, so that he is tracked once.
        """
        clip, portrait = lru_cache(maxsize=1)(self._clip), lru_cache(maxsize=64)(self._portrait)
        rows, failed = [], []
        ordered = sorted(pairs, key=lambda pair: (pair.driver.name, pair.portrait.name))
        for done, pair in enumerate(ordered):
            tell = partial(on_pair, done, len(pairs), pair)
            results = self.results(pair)
            kept = results.read(self.settings)
            try:
                whole = list(kept) == list(self.settings) and (results.folder / SHEET).is_file()
                if not whole:
                    stage = partial(unfinished, tell)
                    kept = self.measure(pair, portrait(pair.portrait), clip(pair.driver), stage)
                    results.write(kept, self.settings)
                new = [Row(pair.name, name, metrics) for name, metrics in kept.items()]
                rows += new
                said = [f"{row.method}: {', '.join(faults(row)) or 'good'}" for row in new]
                tell("; ".join(said) + " (kept)" * whole, True)
            except (ValueError, OSError, MemoryError, RuntimeError) as error:
                failed.append(f"{pair.name}: {error}")
                tell(f"failed: {error}", True)
        return sorted(rows, key=lambda row: row.pair), failed

    def measure(self, pair: Pair, portrait: Footage, clip: Footage, on_stage: OnStage) -> Measured:
        """Render one pair, measure all renderers' pictures, and write the sheet."""
        aligned = align(portrait.track, clip.track, head=self.tools.head)
        chosen = spread(len(clip.frames), self.frames)
        shown = clip.only(chosen)
        target = replace(aligned.track[torch.tensor(chosen)], fps=shown.fps)
        scene = aligned_scene(pair.name, portrait, shown, target, self.tools, on_stage)
        pictures = {PREVIEW: scene.warped.warp_levels}
        if self.model is not None:
            pictures[SMALL] = network_frames(
                scene, self.model, self.tools, ReenactOptions(), on_stage=on_stage
            )
        on_stage("measuring")
        box = box_of(portrait.track.landmarks[0])
        seen = {
            name: look_at(scene.portrait, box, frames, shown.fps, self.tools)
            for name, frames in pictures.items()
        }
        rows = {
            name: self._measures(scene, portrait, clip, chosen, aligned, pictures[name], seen[name])
            for name in pictures
        }
        if self.model is not None:
            rows[SMALL] |= contrasts(pictures[SMALL], pictures[PREVIEW], seen[PREVIEW].points[1:])
        self._sheet(pair, scene, shown, pictures, seen)
        return rows

    def results(self, pair: Pair) -> PairResults:
        """Return where a pair's results are kept, and for which input."""
        files = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in (pair.driver, pair.portrait)]
        text = repr((files, self.frames, TRACKED))
        return PairResults(
            self.output / "pairs" / pair.folder, hashlib.sha256(text.encode()).hexdigest()[:32]
        )

    @property
    def settings(self) -> dict[str, str]:
        """Return, by renderer, what decides its pictures and their measures: the code and the model."""
        model = {} if self.model is None else {SMALL: f"{code_fingerprint()} {self.model.fingerprint}"}
        return {PREVIEW: code_fingerprint(), **model}

    def _clip(self, path: Path) -> Footage:
        return read_clip(path, self.tools, crop=False, spread=TRACKED)

    def _portrait(self, path: Path) -> Footage:
        picture = load_image(path)
        picture = resize(picture, output_size(tuple(picture.shape[-2:]), ReenactOptions()))
        frames = levels(picture)[None]
        return Footage(path.stem, frames, 0.0, self.tools.track(frames, 0.0))

    def _measures(
        self,
        scene: Scene,
        portrait: Footage,
        clip: Footage,
        chosen: Sequence[int],  # frames of the clip
        aligned: Alignment,
        pictures: Tensor,  # (F, 3, H, W) uint8
        seen: Seen,
    ) -> dict[str, float]:
        openings, driver = Openings.of(seen.points), Openings.of(clip.track.landmarks)
        heads = [HeadRange.of(self.tools.head, track.shape) for track in (portrait.track, clip.track)]
        result, acted = openings[1:], driver[torch.tensor(chosen)]
        mouths = lip_range(openings.lips[:1], heads[0]), lip_range(driver.lips, heads[1])
        lids = (
            lid_range(result.lids, heads[0], openings.lids[0]),
            lid_range(driver.lids, heads[1]),
        )
        turns = turns_of(scene, portrait.track, clip.track, aligned, chosen, seen)
        limits = aligned.turn.limits
        largest, drivers_largest = turns.largest()
        asked = widest(acted.lips) / mouths[1]
        return {
            "lips": lip_error(result.lips, acted.lips, *mouths),
            "lips_gap": float((result.lips - acted.lips).abs().nanmean()),
            "lids": lid_error(result, acted, *lids),
            "turn": turns.error(),
            "gain": turns.gain(limits.left, limits.right),
            "over": turns.over(limits.left, limits.right),
            "largest_turn": largest,
            "driver_turn": drivers_largest,
            "far": far(scene.portrait, pictures, seen.points),
            "faces": seen.wrong_faces,
            **amplitudes(
                seen.track.expression[1:],
                scene.driver.track.expression,
                scene.driver.track.expression_names,
            ),
            "amplitude_asked": amplitudes(
                scene.request.track.expression,
                scene.driver.track.expression,
                scene.driver.track.expression_names,
            )["amplitude"],
            "still": float(turns.stands_still(min(limits.left, limits.right, limits.pitch))),
            "shut": float(asked >= OPENS and widest(result.lips) / mouths[0] < SHUT * asked),
        }

    def _sheet(
        self, pair: Pair, scene: Scene, shown: Footage, pictures: dict[str, Tensor], seen: dict[str, Seen]
    ) -> None:
        acted = Openings.of(shown.track.landmarks)
        yaw = seen_rotation(shown.track)[:, 0, 2]
        frames = telling_frames([acted.lips, -acted.lids.amin(1), yaw, -yaw], len(shown.frames))
        parts = {name: face_square(look.points, scene.portrait.shape[-2:]) for name, look in seen.items()}
        driver = face_square(shown.track.landmarks, shown.frames.shape[-2:])
        write_sheet(
            self.results(pair).folder / SHEET,
            scene.portrait,
            {"driver": shown.frames, **pictures},
            {"driver, face": (shown.frames, driver)}
            | {f"{name}, face": (frames, parts[name]) for name, frames in pictures.items()},
            parts[PREVIEW],
            frames,
            [f"frame {i}" for i in frames],
        )


def turns_of(
    scene: Scene, portrait: FaceTrack, clip: FaceTrack, aligned: Alignment, chosen: Sequence[int], seen: Seen
) -> Turns:
    """Return all rotations of a pair relative to the line of sight."""
    places = scene.request.landmarks
    wanted = replace(scene.request.track, landmarks=torch.nn.functional.pad(places, (0, 1)))
    shown = seen_rotation(seen.track)
    unseen = ~torch.isfinite(seen.points).all(-1).all(-1)
    shown = shown.masked_fill(unseen[:, None, None], torch.nan)
    driver = seen_rotation(clip)
    neutral = aligned.neutral_frame
    if neutral is None:
        raise ValueError("the default alignment has no neutral frame; the suite measures mode auto only")
    return Turns(
        photo=shown[0],
        shown=shown[1:],
        own=seen_rotation(portrait)[0],
        wanted=seen_rotation(wanted),
        neutral=driver[neutral],
        driver=driver[torch.tensor(chosen)],
    )


def far(
    photo: Tensor,  # (3, H, W) uint8
    pictures: Tensor,  # (F, 3, H, W) uint8
    points: Tensor,  # (1 + F, 478, 3) pixels, of the photo and the pictures; NaN: no face
) -> float:
    """Return the share of pixels outside of the people of photo and picture that changed, worst picture."""
    own = people_in(photo, points[0])
    shares = []
    for picture, where in zip(pictures, points[1:], strict=True):
        known = bool(where.isfinite().all())
        shares.append(changed_outside(photo, picture, own | people_in(picture, where) if known else own))
    return max(shares)


def contrasts(result: Tensor, warp: Tensor, points: Tensor) -> dict[str, float]:
    """Return the least and the largest ratio of the face's contrast, result over warp, of all frames
    (F, 3, H, W) uint8 in which the landmarks (F, 478, 3) are known."""
    ratios = torch.tensor(
        [
            contrast_ratio(own, before, face_oval(where, tuple(own.shape[-2:])))
            for own, before, where in zip(result, warp, points, strict=True)
            if bool(where.isfinite().all())
        ]
        or [float("nan")]
    )
    ratios = ratios[ratios.isfinite()] if bool(ratios.isfinite().any()) else ratios
    return {"contrast_min": float(ratios.min()), "contrast_max": float(ratios.max())}


@lru_cache(maxsize=1)
def code_fingerprint() -> str:
    """Return a fingerprint of the library, its built-in data and this suite: other code, other results."""
    files = [p for p in (ROOT / "magicportrait_core").rglob("*") if p.suffix in (".py", ".safetensors")]
    files += Path(__file__).parent.glob("*.py")
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]
