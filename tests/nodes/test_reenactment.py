"""The diffusion workflows on a toy model in the real server: results, twice, in parts, cancelled, killed."""

from __future__ import annotations

import io
import time

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

SIZE = (128, 64)  # height, width: not square, so that a mistaken order of axes shows


@pytest.fixture(scope="module")
def inputs(toy_models, toy_inputs):
    return toy_inputs


def toy(
    name: str,
    sampler: dict | None = None,  # widgets of all samplers
    driving: str = "spoken.mp4",
    size: int = 64,
    text: bool = True,
) -> dict:
    """A workflow with the toy model and small inputs; without `text`, the model's own embedding is used."""
    workflow = api(name)
    inputs_of(workflow, "Portrait")["image"] = "small.png"
    inputs_of(workflow, "Driving video")["file"] = driving
    inputs_of(workflow, "MagicPortrait")["model"] = "toy" if text else "toy_with_text"
    inputs_of(workflow, "VAE")["vae_name"] = "taesd"
    inputs_of(workflow, "Motion features")["size"] = size
    if not text:
        del inputs_of(workflow, "Sampler")["conditioning"]
        for title in ("Prompt of the training", "Text encoder"):
            del workflow[node_named(workflow, title)]
    for node in workflow.values():
        if node["class_type"] == "MagicPortraitSampler":
            node["inputs"] |= {"steps": 3, "save_every": 0, **(sampler or {})}  # no state to go on from
    keep_results(workflow)
    return workflow


@pytest.fixture(scope="module")
def render(client, server, inputs):
    return lambda *arguments, **changes: Render(client, server, toy(*arguments, **changes))


@pytest.fixture(scope="module")
def first(render) -> Render:
    return render("reenactment")


def test_a_portrait_and_a_clip_become_a_video(first, server):
    assert first.latents.shape == (FRAMES, 4, SIZE[0] // 8, SIZE[1] // 8)
    video = saved_file(server, first.workflow, first.run, "Save reenactment")
    frames = np.stack(list(read_video(video))).astype(int)
    assert frames.shape == (FRAMES, *SIZE, 3)
    assert np.abs(frames - first.frames).mean() < 6, "more than what the video codec takes"
    with av.open(str(video)) as opened:
        assert opened.streams.video[0].average_rate == FPS
        sound = sum(frame.samples for frame in opened.decode(audio=0)) / opened.streams.audio[0].rate
        assert abs(sound - FRAMES / FPS) < 1 / FPS


def test_the_vae_of_the_host_shows_the_latents(first):
    """The toy autoencoder shows 0.5 + clean / 4 in each 8 x 8 pixels; clean is in the network's scale."""
    clean = first.latents[:, :3] * 0.18215
    colours = (0.5 + 3 * torch.tanh(clean / 3) / 4).clamp(0, 1).movedim(1, -1)
    shown = torch.from_numpy(first.frames[:, ::8, ::8]).float() / 255
    torch.testing.assert_close(shown, colours, rtol=0, atol=1.01 / 255)
    assert (first.latents[1:] - first.latents[:-1]).abs().mean() > 0.1 * first.latents.std()


def test_progress_and_previews_while_sampling(first):
    sampler = node_named(first.workflow, "Sampler")
    done = [event.data["value"] / event.data["max"] for event in first.run.of_kind("progress", sampler)]
    assert done == sorted(done) and done[-1] == 1
    previews = first.run.of_kind("preview", sampler)
    assert previews and Image.open(io.BytesIO(previews[-1].data["bytes"])).format == "JPEG"
    report = first.run.outputs[sampler]["text"][0]
    assert "3 windows" in report, report


def test_same_again_executes_nothing(first, client):
    assert client.run(first.workflow).executed_nodes() == []


def test_same_seed_gives_the_same_frames_after_the_host_forgot_everything(first, render, client):
    client.free()
    time.sleep(0.5)  # the server answers before it has forgotten
    again = render("reenactment")
    assert again.executed("Sampler") and again.executed("Track the driver")
    assert torch.equal(again.latents, first.latents)
    assert np.array_equal(again.frames, first.frames)


def test_another_seed_samples_only(first, render):
    other = render("reenactment", {"seed": 43})
    assert other.executed("Sampler") and not other.executed("Track the driver")
    assert not other.executed("Motion features")
    assert (other.latents - first.latents).abs().mean() > 0.1 * first.latents.std()


def test_another_driver_gives_other_frames(first, render):
    other = render("reenactment", driving="other.mp4")
    assert not other.executed("MagicPortrait"), "the model was loaded again"
    change = (other.latents - first.latents).abs().mean((1, 2, 3))
    assert (change > 0.02 * first.latents.std()).all(), change


def test_windows_at_a_time_change_rounding_only(first, render):
    together = render("reenactment", {"windows_per_batch": 3})
    assert together.executed("Sampler")
    torch.testing.assert_close(together.latents, first.latents, rtol=0, atol=2e-4)


def test_two_workers_are_one_render(render):
    settings = {"coupling": "independent segments", "windows_per_batch": 1}
    alone = render("reenactment", settings)
    shared = render("reenactment_two_workers", settings)
    assert shared.frames.shape == (FRAMES, *SIZE, 3)
    assert torch.equal(alone.latents, shared.latents)


def test_workers_on_two_machines_hand_over_files(render, client, server):
    settings = {"coupling": "independent segments", "windows_per_batch": 1}
    joined = toy("reenactment_two_workers", settings)
    for number, title in enumerate(("Worker 1 of 2", "Worker 2 of 2")):
        worker = toy("reenactment_two_workers", settings)
        for unused in (
            "One timeline",
            "Frames",
            "Video of reenactment",
            "Save reenactment",
            "Latents",
            "Pictures",
        ):
            del worker[node_named(worker, unused)]
        inputs = {
            "segments": [node_named(worker, title), 0],
            "filename_prefix": f"magicportrait/part{number}",
        }
        worker["save"] = {"class_type": "MagicPortraitSaveSegments", "inputs": inputs}
        run = client.run(worker)
        assert run.status == "success", run.error
        (file,) = server.output_folder.glob(f"magicportrait/part{number}*")
        joined[node_named(joined, title)] = {
            "class_type": "MagicPortraitLoadSegments",
            "inputs": {"file": f"magicportrait/{file.name} [output]"},
            "_meta": {"title": title},
        }
    client.get_json("/object_info/MagicPortraitLoadSegments")  # what R does in the browser
    assert torch.equal(Render(client, server, joined).latents, render("reenactment", settings).latents)


def test_a_long_video_with_overlaps(render):
    long = render("reenactment_long")
    assert long.frames.shape == (FRAMES, *SIZE, 3)
    assert bool(long.latents.isfinite().all())


def test_the_stored_embedding_makes_the_text_encoder_needless(render, client):
    assert render("reenactment", text=False).frames.shape == (FRAMES, *SIZE, 3)
    workflow = toy("reenactment", text=False)
    inputs_of(workflow, "MagicPortrait")["model"] = "toy"
    run = client.run(workflow)
    assert run.status == "error" and "CLIP Text Encode" in run.error


def test_missing_released_files_are_named_before_anything_runs(client, inputs):
    workflow = toy("reenactment")
    inputs_of(workflow, "MagicPortrait")["model"] = "released"
    run = client.run(workflow)
    assert run.status == "rejected" and "denoising_unet" in run.error and "released" in run.error


@pytest.mark.parametrize("title", ["Motion features", "Sampler"])
def test_cancel_takes_less_than_a_second(title, client, inputs):
    workflow = toy("reenactment", {"steps": 50, "seed": 7}, size=192)
    node = node_named(workflow, title)
    run = client.run(workflow, cancel_when=lambda event: event.kind == "progress" and event.node == node)
    assert run.status == "interrupted", run.error
    assert run.cancel_seconds < 1.0
    assert client.get_json("/queue")["queue_running"] == []


def test_a_killed_render_goes_on_with_the_identical_result(render, server, comfyui, tmp_path):
    settings = {"steps": 8, "save_every": 2, "seed": 5}
    rest = finished_after_kill(toy("reenactment", settings, text=False), server, comfyui, tmp_path)
    assert torch.equal(rest.latents, render("reenactment", settings, text=False).latents)
