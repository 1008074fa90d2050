"""A model on stored clips: exact where it is known what has to come out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from drawn_clips import drawn_clip
from tiny_model import TINY
from toy_model import randomise

from magicportrait_core.guidance import GuidanceMaps
from magicportrait_core.head.assets import load_head
from magicportrait_core.models.config import SD15
from magicportrait_core.models.initial import new_networks
from magicportrait_core.models.model import MagicPortraitModel
from magicportrait_core.pipeline import animate, decode_clip
from magicportrait_core.render_options import ReenactOptions
from magicportrait_core.warped_portrait import WarpedPortrait
from training.clip_store import ClipStore, ClipWriter
from training.evaluation.store import clip_rows, evaluate_store, no_text, spread
from training.evaluation.stored_clip import sample_stored, warped_clip

pytest.importorskip("skimage")


def model_of(networks) -> MagicPortraitModel:
    parts = (networks.appearance_net, networks.denoising_unet, networks.guidance_encoders)
    for part in parts:
        part.eval().requires_grad_(False)
    return MagicPortraitModel(TINY, *parts, no_text(TINY), "", "tiny")


@pytest.fixture(scope="module")
def untrained() -> MagicPortraitModel:
    return model_of(new_networks(TINY))


@pytest.fixture(scope="module")
def clip():
    return drawn_clip(load_head(), 0, frames=6)


def test_one_step_of_an_untrained_model_is_the_warp_exactly(untrained, clip):
    warped = warped_clip(clip, TINY)
    assert torch.equal(sample_stored(untrained, TINY, no_text(TINY), warped), clip.maps["warp"])
    for fps in (25.0, 0.0):
        rows = {row.method: row.metrics for row in clip_rows(untrained, TINY, replace(clip, fps=fps), (1,))}
        network, warp = rows["network, 1 step"], rows["warp"]
        assert network == pytest.approx(warp, rel=0, abs=0, nan_ok=True)


def test_more_steps_of_an_untrained_model_stay_at_the_warp(untrained, clip):
    sampled = sample_stored(untrained, TINY, no_text(TINY), warped_clip(clip, TINY), steps=4)
    assert (sampled.int() - clip.maps["warp"].int()).abs().max() <= 1


def test_the_pipeline_gives_the_same_frames(clip):
    """Same maps, same portrait, random networks, several windows and steps: two codes, one result."""
    networks = new_networks(TINY)
    generator = torch.Generator().manual_seed(3)
    for part in (networks.appearance_net, networks.denoising_unet, networks.guidance_encoders):
        randomise(part, generator)
    model = model_of(networks)
    direct = sample_stored(model, TINY, no_text(TINY), warped_clip(clip, TINY), steps=2)

    nothing = torch.zeros_like(clip.maps["depth"])
    maps = GuidanceMaps(clip.maps["depth"], clip.maps["normal"], clip.maps["normal"], nothing)
    warped = WarpedPortrait(
        clip.reference, clip.maps["warp"], clip.maps["sources"], torch.zeros(len(clip.frames))
    )
    portrait = clip.reference.float() / 127.5 - 1
    latents = animate(portrait, maps, model, options=ReenactOptions(steps=2, seed=0), warped=warped)
    frames = torch.stack(list(decode_clip(latents, model)))
    piped = ((frames + 1) * 127.5).round().to(torch.uint8)
    assert (direct.int() - clip.maps["warp"].int()).abs().float().mean() > 2  # the networks do something
    assert (direct.int() - piped.int()).abs().max() <= 1


def test_a_store_has_a_row_for_every_clip_and_method(untrained, drawn_store):
    seen = []
    table = evaluate_store(
        untrained, ClipStore(drawn_store), (1, 2), limit=2, on_clip=lambda *done: seen.append(done)
    )
    assert [(row.pair, row.method) for row in table.rows] == [
        (name, method)
        for name in ("drawn0", "drawn1")
        for method in ("still", "warp", "network, 1 step", "network, 2 steps")
    ]
    assert seen == [(1, 2), (2, 2)]
    assert table.mean("warp", "psnr_head") > table.mean("still", "psnr_head") + 1
    assert table.mean("warp", "flicker") > 0


def test_a_frame_that_is_the_portrait_itself_does_not_count(clip, tmp_path):
    frames = clip.frames.clone()
    frames[0] = clip.reference
    rows = {row.method: row.metrics for row in clip_rows(None, TINY, replace(clip, frames=frames), ())}
    others = {row.method: row.metrics for row in clip_rows(None, TINY, _part(clip), ())}
    assert rows["still"]["psnr"] == pytest.approx(others["still"]["psnr"])


def _part(clip):
    return replace(clip, frames=clip.frames[1:], maps={name: value[1:] for name, value in clip.maps.items()})


def test_clips_are_taken_evenly():
    assert spread(10, 4) == [0, 2, 5, 7] and spread(3, None) == spread(3, 9) == [0, 1, 2]
    with pytest.raises(ValueError, match="limit=0"):
        spread(3, 0)


def test_what_cannot_be_measured_is_said(clip, tmp_path):
    with pytest.raises(ValueError, match="'sd15' works on the latents of a VAE.*--videos"):
        warped_clip(clip, SD15)
    with pytest.raises(ValueError, match="clip 'drawn0' lacks 'portrait'"):
        warped_clip(replace(clip, reference=None), TINY)
    bare = replace(clip, maps={name: value for name, value in clip.maps.items() if name != "warp"})
    with pytest.raises(ValueError, match="lacks 'warp', which the model 'tiny' reads"):
        warped_clip(bare, TINY)
    with ClipWriter(tmp_path) as writer:
        writer.add(clip)
    (tmp_path / "index.json").write_text('{"version": 1, "clips": [], "shards": {}}', encoding="utf-8")
    with pytest.raises(ValueError, match="holds no clips"):
        evaluate_store(None, ClipStore(tmp_path), config=TINY)
    with pytest.raises(ValueError, match="neither a model nor a config"):
        evaluate_store(None, ClipStore(tmp_path))
