"""The workflow of the built-in model in the real server, on toy models that start from the warp as well."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from demo_pictures import read_video
from example_workflows import (
    FPS,
    FRAMES,
    Render,
    api,
    finished_after_kill,
    inputs_of,
    keep_results,
    node_named,
    saved_file,
)
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SIZE = (256, 128)  # height, width of the portrait: not square, so that a mistaken order of axes shows
WORKING = (96, 64)  # of the toy model, which looks at the square around the face, as far as the picture goes
ROUNDING = 1  # level: the warp is kept in 8 bits, and the host cuts off what is below one
VIDEOS = ("reenactment", "moving portrait", "tracked head", "depth", "normal", "render")


@pytest.fixture(scope="module")
def inputs(toy_models, toy_inputs):
    return toy_inputs


def small(sampler: dict | None = None, model: str = "toy_small", driving: str = "spoken.mp4") -> dict:
    """The workflow with a toy model and small inputs, without the videos."""
    workflow = api("reenactment_small")
    inputs_of(workflow, "Portrait")["image"] = "small.png"
    inputs_of(workflow, "Driving video")["file"] = driving
    inputs_of(workflow, "MagicPortrait")["model"] = model
    inputs_of(workflow, "Sampler").update({"save_every": 0, **(sampler or {})})
    for key in [key for key, node in workflow.items() if node["class_type"] in ("CreateVideo", "SaveVideo")]:
        del workflow[key]
    keep_results(workflow)
    workflow["warp"] = {
        "class_type": "SaveImage",
        "inputs": {"images": [node_named(workflow, "Move the portrait"), 0], "filename_prefix": "toy"},
        "_meta": {"title": "Warp"},
    }
    return workflow


@pytest.fixture(scope="module")
def render(client, server, inputs):
    return lambda *arguments, **changes: Render(client, server, small(*arguments, **changes))


@pytest.fixture(scope="module")
def first(render) -> Render:
    return render()


def test_nothing_but_a_portrait_and_a_clip_is_needed(client, server, inputs):
    workflow = api("reenactment_small")
    inputs_of(workflow, "Portrait")["image"] = "small.png"
    inputs_of(workflow, "Driving video")["file"] = "spoken.mp4"
    assert inputs_of(workflow, "MagicPortrait")["model"] == "small (built in)"
    inputs_of(workflow, "MagicPortrait")["model"] = "toy_small"
    run = client.run(workflow)
    assert run.status == "success", run.error
    for name in VIDEOS:
        frames = list(read_video(saved_file(server, workflow, run, f"Save {name}")))
        assert len(frames) == FRAMES, name
        assert name == "tracked head" or frames[0].shape == (*SIZE, 3), name
    with av.open(str(saved_file(server, workflow, run, "Save reenactment"))) as opened:
        assert opened.streams.video[0].average_rate == FPS
        sound = sum(frame.samples for frame in opened.decode(audio=0)) / opened.streams.audio[0].rate
        assert abs(sound - FRAMES / FPS) < 1 / FPS
    assert "1 step, float32 on cpu" in run.outputs[node_named(workflow, "Sampler")]["text"][0]


def test_before_its_training_the_result_is_the_warp_exactly(render):
    untrained = render(model="toy_untrained")
    off = np.abs(untrained.frames.astype(int) - untrained.pictures("Warp"))
    assert off.max() <= ROUNDING
    report = untrained.run.outputs[node_named(untrained.workflow, "Frames")]["text"][0]
    assert report.startswith(
        f"{FRAMES} frames of {SIZE[1]}x{SIZE[0]} pixels: the warped portrait, changed by 0.0"
    )
    assert report.endswith("pixels around the face, which the model sees at 64x96")


def test_what_is_learned_changes_the_head_and_not_the_far_background(first):
    warp = first.pictures("Warp")
    changed = np.abs(first.frames.astype(int) - warp).max(axis=(0, 3))
    assert changed[90:150, 40:90].mean() > 2 * ROUNDING, "the face is not repaired"
    assert changed[-2:, :2].max() <= ROUNDING, "far from the head"
    assert first.latents.shape == (FRAMES, 48, WORKING[0] // 4, WORKING[1] // 4)


def test_zero_is_as_usual_for_the_model(first, render):
    assert inputs_of(first.workflow, "Sampler")["steps"] == 0
    explicit = render({"steps": 1, "guidance_scale": 1.0})
    assert explicit.executed("Sampler") and torch.equal(explicit.latents, first.latents)
    several = render({"steps": 3})
    assert not torch.equal(several.latents, first.latents)


def test_previews_are_pictures_of_the_model(render):
    whole = render({"window_frames": FRAMES})  # one window: one preview, its last picture is the last frame
    (preview,) = whole.run.of_kind("preview", node_named(whole.workflow, "Sampler"))
    picture = Image.open(io.BytesIO(preview.data["bytes"]))
    picture = picture.resize((3 * WORKING[1], WORKING[0]), Image.Resampling.BOX)  # as the host enlarged it
    frame = whole.latents[-1].unflatten(0, (3, 4, 4)).permute(0, 3, 1, 4, 2).reshape(3, *WORKING)
    shown = torch.from_numpy(np.array(picture)[:, -WORKING[1] :]).movedim(-1, 0)
    assert (frame.clamp(-1, 1) * 127.5 + 127.5 - shown).abs().mean() < 12, "more than what JPEG takes"


def test_same_again_executes_nothing_and_another_driver_loads_nothing(first, render, client):
    assert client.run(render().workflow).executed_nodes() == []
    other = render(driving="other.mp4")
    assert other.executed("Sampler") and not other.executed("MagicPortrait")
    assert (other.latents - first.latents).abs().mean() > 0.01


def test_after_the_host_forgot_everything_the_frames_are_the_same(first, render, client):
    client.free()
    assert np.array_equal(render().frames, first.frames)


def test_two_workers_hand_over_files_and_are_one_render(first, client, server, inputs):
    settings = {"coupling": "independent segments", "windows_per_batch": 1, "overlap": 2}
    alone = Render(client, server, small(settings))
    names = []
    for part in (1, 2):
        worker = small({**settings, "part": part, "parts": 2})
        for title in ("One timeline", "Frames", "Latents", "Pictures"):
            del worker[node_named(worker, title)]
        prefix = f"magicportrait/small{part}"
        segments = {"segments": [node_named(worker, "Sampler"), 0], "filename_prefix": prefix}
        worker["save"] = {"class_type": "MagicPortraitSaveSegments", "inputs": segments}
        run = client.run(worker)
        assert run.status == "success", run.error
        names.append(run.outputs["save"]["text"][0].partition(": ")[0])
    client.get_json("/object_info/MagicPortraitLoadSegments")  # what R does in the browser
    joined = small(settings)
    timeline = inputs_of(joined, "One timeline")
    for i, name in enumerate(names):
        joined[f"part{i}"] = {"class_type": "MagicPortraitLoadSegments", "inputs": {"file": name}}
        timeline[f"segments.segments{i}"] = [f"part{i}", 0]
    del joined[node_named(joined, "Sampler")]
    together = Render(client, server, joined)
    assert torch.equal(together.latents, alone.latents)
    assert np.array_equal(together.frames, alone.frames)


def test_a_killed_render_goes_on_with_the_identical_result(render, server, comfyui, tmp_path):
    settings = {"steps": 8, "save_every": 2}
    rest = finished_after_kill(small(settings), server, comfyui, tmp_path)
    assert torch.equal(rest.latents, render(settings).latents)


def test_the_model_that_ships_repairs_the_warp_a_little(client, server, inputs):
    real = Render(client, server, small(model="small (built in)"))
    assert real.latents.shape == (FRAMES, 48, 48, 32), "128 pixels wide, as trained"
    changed = np.abs(real.frames.astype(int) - real.pictures("Warp"))
    assert 0.05 < changed.mean() < 8, "levels of 255"
    assert changed[:, -2:, :2].max() <= ROUNDING, "far from the head"
    report = real.run.outputs[node_named(real.workflow, "Sampler")]["text"][0]
    assert f"{FRAMES} of {FRAMES} frames in 1 window of 12, 1 step" in report


def test_the_built_in_model_in_a_graph_of_another_names_what_to_connect(client, inputs):
    workflow = api("reenactment")
    inputs_of(workflow, "Portrait")["image"] = "small.png"
    inputs_of(workflow, "Driving video")["file"] = "spoken.mp4"
    inputs_of(workflow, "MagicPortrait")["model"] = "toy_small"
    inputs_of(workflow, "VAE")["vae_name"] = "taesd"
    run = client.run(workflow)
    assert run.status == "error" and run.error_node == node_named(workflow, "Motion features")
    assert "connect the warp of Flow Warp Preview" in run.error and "\n" not in run.error


def test_the_hosts_vae_decode_fails_as_the_help_page_says(client, inputs):
    workflow = small()
    workflow["vae"] = {"class_type": "VAELoader", "inputs": {"vae_name": "taesd"}}
    samples = {"samples": [node_named(workflow, "One timeline"), 0], "vae": ["vae", 0]}
    workflow["theirs"] = {"class_type": "VAEDecode", "inputs": samples}
    workflow["see"] = {"class_type": "PreviewImage", "inputs": {"images": ["theirs", 0]}}
    run = client.run(workflow)
    assert run.status == "error" and run.error_node == "theirs"
    words = "to have 4 channels, but got 48 channels instead"
    assert words in run.error and words in (ROOT / "web/docs/MagicPortraitDecode.md").read_text("utf-8")


def test_decode_portrait_decodes_models_with_a_vae_as_the_host_does(client, server, inputs):
    workflow = api("reenactment")
    inputs_of(workflow, "Portrait")["image"] = "small.png"
    inputs_of(workflow, "Driving video")["file"] = "spoken.mp4"
    inputs_of(workflow, "MagicPortrait")["model"] = "toy_with_text"
    inputs_of(workflow, "VAE")["vae_name"] = "taesd"
    inputs_of(workflow, "Motion features")["size"] = 64
    del inputs_of(workflow, "Sampler")["conditioning"]
    inputs_of(workflow, "Sampler").update({"steps": 2, "save_every": 0})
    for title in ("Prompt of the training", "Text encoder", "Video of reenactment", "Save reenactment"):
        del workflow[node_named(workflow, title)]
    keep_results(workflow)
    links = {
        name: [node_named(workflow, title), 0] for name, title in (("model", "MagicPortrait"), ("vae", "VAE"))
    }
    links["latent"] = [node_named(workflow, "One timeline"), 0]
    workflow["ours"] = {"class_type": "MagicPortraitDecode", "inputs": links, "_meta": {"title": "Ours"}}
    shown = {"images": ["ours", 0], "filename_prefix": "toy"}
    workflow["shown"] = {"class_type": "SaveImage", "inputs": shown, "_meta": {"title": "Our pictures"}}
    both = Render(client, server, workflow)
    assert both.frames.std() > 5 and np.array_equal(both.frames, both.pictures("Our pictures"))
    assert both.run.outputs["ours"]["text"][0] == f"{FRAMES} frames of 64x128 pixels, decoded by the VAE"
