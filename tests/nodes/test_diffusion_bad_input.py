"""Odd and broken inputs of the diffusion nodes, through the real server: each works, or says what to do."""

from dataclasses import replace

import pytest
import torch
from demo_pictures import write_driving, write_portrait
from golden_model import golden_state
from PIL import Image
from safetensors.torch import load_file, save_file
from toy_model import MODEL, TEXT_ENCODER, TOY, VAE, write_model, write_taesd

from magicportrait_core.models.config import GUIDANCE_MAPS

FRAMES = 8  # two windows of 6
SIZE = (192, 128)  # width, height
RAW_PYTHON = ("Traceback", "NoneType", "object has no attribute", "Errno", "IndexError", "KeyError")


@pytest.fixture(scope="module")
def inputs(server, toy_models):
    folder, models = server.input_folder, server.base / "models"
    write_portrait(None, folder / "whole.png")
    portrait = Image.open(folder / "whole.png").crop((0, 60, 512, 401))
    portrait.resize(SIZE).save(folder / "diffusion_face.png")
    portrait.resize((SIZE[0] * 2, SIZE[1] * 2)).save(folder / "diffusion_twice.png")
    portrait.crop((80, 0, 420, 340)).resize((SIZE[1], SIZE[1])).save(folder / "diffusion_square.png")
    write_driving(folder / "diffusion.mp4", max_frames=FRAMES)
    write_taesd(models / "vae_approx", "taesd3", 16)
    write_model(models / "magicportrait/narrow", replace(TOY, unet=replace(TOY.unet, text_dim=16)))
    wide = replace(TOY.unet, block_out_channels=(32, 32, 32, 32))
    write_model(models / "magicportrait/wide", replace(TOY, unet=wide))
    loud = write_model(models / "magicportrait/loud", text=True) / "denoising_unet.safetensors"
    change(loud, lambda name, value: value * 1e38 if name.startswith("conv_out") else value)
    cut = write_model(models / "magicportrait/cut") / "denoising_unet.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1000])
    (write_model(models / "magicportrait/partial") / "appearance_net.safetensors").unlink()
    small = models / "magicportrait/small"
    small.mkdir()
    for published in ("denoising_unet", "reference_unet"):
        torch.save(golden_state(published), small / f"{published}.pth")
    for name in GUIDANCE_MAPS:
        torch.save(golden_state(f"guidance_encoder_{name}"), small / f"guidance_encoder_{name}.pth")
    save_file({"weight": torch.zeros(3)}, folder / "foreign.segments.safetensors")
    return folder


def change(file, function) -> None:
    """Rewrite the tensors of a safetensors file, with the metadata that it has."""
    from safetensors import safe_open

    with safe_open(file, "pt") as content:
        metadata = content.metadata()
    tensors = {name: function(name, value) for name, value in load_file(file).items()}
    save_file(tensors, file, metadata)


DEFAULTS = {}


@pytest.fixture(scope="module", autouse=True)
def _defaults(object_info):
    for name, node in object_info.items():
        inputs = {k: spec[1] for k, spec in node["input"].get("required", {}).items() if len(spec) > 1}
        DEFAULTS[name] = {k: v["default"] for k, v in inputs.items() if "default" in v}


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": DEFAULTS[kind] | inputs}


def graph(**sampler) -> dict:
    """The whole method at toy size, up to latents. What does not change comes from the server's cache."""
    settings = {"steps": 2, "seed": 1} | sampler
    return {
        "head": node("MagicPortraitLoadTracker"),
        "clip": node("LoadVideo", file="diffusion.mp4"),
        "photo": node("LoadImage", image="diffusion_face.png"),
        "track": node("MagicPortraitTrackVideo", head_tracker=["head", 0], video=["clip", 0]),
        "align": node(
            "MagicPortraitAlignIdentity",
            head_tracker=["head", 0],
            portrait=["photo", 0],
            driving=["track", 0],
        ),
        "maps": node("MagicPortraitRenderGuidance", aligned=["align", 0]),
        "model": node("MagicPortraitLoadModel", model=MODEL),
        "vae": node("VAELoader", vae_name=VAE),
        "clip_l": node("CLIPLoader", clip_name=TEXT_ENCODER, type="stable_diffusion"),
        "prompt": node("CLIPTextEncode", clip=["clip_l", 0], text="A close up of a person."),
        "features": node("MagicPortraitEncodeGuidance", model=["model", 0], guidance=["maps", 0], size=64),
        "sampler": node(
            "MagicPortraitSampler",
            model=["model", 0],
            portrait=["photo", 0],
            vae=["vae", 0],
            features=["features", 0],
            conditioning=["prompt", 0],
            **settings,
        ),
        "joined": node("MagicPortraitTemporalAggregate", **{"segments.segments0": ["sampler", 0]}),
        "frames": node("VAEDecode", samples=["joined", 0], vae=["vae", 0]),
        "see": node("PreviewImage", images=["frames", 0]),
        "report": node("PreviewAny", source=["sampler", 1]),
    }


@pytest.fixture
def succeeds(client, inputs):
    """Runs a graph and returns the number of frames and the sampler's report."""

    def run(workflow: dict) -> tuple[int, str]:
        result = client.run(workflow)
        assert result.status == "success", result.error
        return len(result.outputs["see"]["images"]), result.outputs["report"]["text"][0]

    return run


@pytest.fixture
def fails(client, inputs):
    """Runs a graph and returns the sentence with which a node ended it."""

    def run(workflow: dict, where: str = "sampler") -> str:
        result = client.run(workflow)
        assert result.status == "error" and result.error_node == where, (result.status, result.error)
        assert 40 < len(result.error) < 500 and "\n" not in result.error, result.error
        assert not any(word in result.error for word in RAW_PYTHON), result.error
        return result.error

    return run


def test_the_graph_without_any_fault(succeeds):
    frames, report = succeeds(graph())
    assert frames == FRAMES and "8 of 8 frames in 2 windows of 6, 2 steps, float32 on cpu" in report


@pytest.mark.parametrize("frames", [1, 3])
def test_fewer_frames_than_a_window(frames, succeeds):
    workflow = graph()
    workflow["track"]["inputs"]["frame_limit"] = frames
    shown, report = succeeds(workflow)
    assert shown == frames and f"1 window of {frames}" in report


def test_portrait_of_another_size(succeeds):
    workflow = graph() | {"large": node("LoadImage", image="diffusion_twice.png")}
    workflow["sampler"]["inputs"]["portrait"] = ["large", 0]
    assert succeeds(workflow)[0] == FRAMES


def test_guidance_of_another_size_than_the_portrait(succeeds):
    workflow = graph()
    workflow["maps"]["inputs"]["size"] = 96
    assert succeeds(workflow)[0] == FRAMES


def test_portrait_of_another_aspect(fails):
    workflow = graph() | {"square": node("LoadImage", image="diffusion_square.png")}
    workflow["sampler"]["inputs"]["portrait"] = ["square", 0]
    error = fails(workflow)
    assert (
        "and the portrait 128x128 pixels, which is another aspect; make the guidance from the track" in error
    )


def test_two_portraits(fails):
    workflow = graph() | {"two": node("RepeatImageBatch", image=["photo", 0], amount=2)}
    workflow["sampler"]["inputs"]["portrait"] = ["two", 0]
    assert fails(workflow).startswith("portrait holds 2 images, expected one: pick a frame")


def test_vae_of_another_family(fails):
    workflow = graph()
    workflow["vae"]["inputs"]["vae_name"] = "taesd3"
    error = fails(workflow)
    assert "16 channels and 8 pixels a cell (as of SD3, Flux, Wan or Qwen); the model needs 4" in error
    assert "vae-ft-mse-840000-ema-pruned.safetensors" in error


def test_conditioning_of_another_text_encoder(fails):
    workflow = graph()
    workflow["model"]["inputs"]["model"] = "narrow"
    error = fails(workflow)
    assert error.startswith(
        "conditioning has the shape (1, 77, 768); the model needs (1, tokens, 16): connect"
    )


def test_conditioning_that_was_combined(fails):
    workflow = graph() | {
        "both": node("ConditioningCombine", conditioning_1=["prompt", 0], conditioning_2=["prompt", 0])
    }
    workflow["sampler"]["inputs"]["conditioning"] = ["both", 0]
    assert fails(workflow).startswith("conditioning has 2 entries, expected one: connect CLIP Text Encode")


def test_no_conditioning_for_a_model_without_one(fails):
    workflow = graph()
    del workflow["sampler"]["inputs"]["conditioning"]
    error = fails(workflow)
    assert error.startswith(
        "conditioning is not connected, and no text embedding is stored with the model 'toy'"
    )


def test_predictions_that_overflow(fails):
    workflow = graph()
    workflow["model"]["inputs"]["model"] = "loud"
    error = fails(workflow)
    assert "frames 0-5 in step 1 of 2 holds values that are not finite" in error
    assert "choose bf16 or fp32 in Load MagicPortrait Model" in error


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_works(dtype, succeeds):
    workflow = graph()
    workflow["model"]["inputs"]["dtype"] = dtype
    frames, report = succeeds(workflow)
    assert frames == FRAMES and f"{'b' * (dtype == 'bf16')}float16 on cpu" in report


def test_features_of_another_model(fails):
    workflow = graph() | {"wide": node("MagicPortraitLoadModel", model="wide")}
    workflow["features"]["inputs"]["model"] = ["wide", 0]
    error = fails(workflow)
    assert "encode maps of the same frames and size with the guidance encoders of this model" in error


def test_overlap_of_a_whole_window(fails):
    assert "windows of 6 frames with an overlap of 6; expected" in fails(graph(overlap=6))


def test_windows_longer_than_the_model_knows(client, inputs):
    workflow = graph(window_frames=40)
    run = client.run(workflow)
    assert run.status == "rejected" and "window_frames" in run.error


def test_parts_that_do_not_exist(fails):
    assert fails(graph(part=3, parts=2)) == "part is 3 but parts is 2: choose part 1 to 2"
    assert fails(graph(parts=5)) == "parts is 5, but the clip has 2 windows: choose parts 1 to 2"


def test_parts_that_do_not_cover_the_clip(fails):
    error = fails(graph(part=2, parts=2), "joined")
    assert "no segment holds frames 0-1 of the clip's 8 frames" in error and "of all workers" in error


def joined(first: dict, second: dict) -> dict:
    """Two samplers into one timeline."""
    workflow = graph(**first)
    workflow["second"] = graph(**second)["sampler"]
    workflow["joined"]["inputs"]["segments.segments1"] = ["second", 0]
    return workflow


def test_parts_that_cover_the_clip(succeeds):
    assert succeeds(joined({"part": 2, "parts": 2}, {"part": 1, "parts": 2}))[0] == FRAMES


def test_segments_of_different_renders(fails):
    error = fails(joined({"part": 1, "parts": 2}, {"part": 2, "parts": 2, "seed": 2}), "joined")
    assert (
        error.startswith("segments 2 differ from segments 1 in their render") and "seed and settings" in error
    )


def test_segments_of_clips_of_different_length(fails):
    workflow = joined({}, {})
    workflow["short_track"] = {
        **workflow["track"],
        "inputs": workflow["track"]["inputs"] | {"frame_limit": 3},
    }
    workflow["short_align"] = {
        **workflow["align"],
        "inputs": workflow["align"]["inputs"] | {"driving": ["short_track", 0]},
    }
    workflow["short_maps"] = node("MagicPortraitRenderGuidance", aligned=["short_align", 0])
    workflow["short"] = {
        **workflow["features"],
        "inputs": workflow["features"]["inputs"] | {"guidance": ["short_maps", 0]},
    }
    workflow["second"]["inputs"]["features"] = ["short", 0]
    assert fails(workflow, "joined").startswith(
        "segments 2 differ from segments 1 in their clip length: 3 instead"
    )


def test_saved_segments_come_back(client, succeeds, inputs):
    workflow = graph(part=1, parts=2) | {
        "save": node(
            "MagicPortraitSaveSegments", segments=["sampler", 0], filename_prefix="magicportrait/half"
        )
    }
    del workflow["joined"], workflow["frames"], workflow["see"]
    saved = client.run(workflow)
    assert saved.status == "success", saved.error
    text = saved.outputs["save"]["text"][0]
    assert "1 segment with 6 of the clip's 8 frames (0 to 5), 16x8 latent cells" in text
    name = text.partition(": ")[0]
    again = graph(part=2, parts=2) | {"half": node("MagicPortraitLoadSegments", file=name)}
    again["joined"]["inputs"]["segments.segments1"] = ["half", 0]
    assert succeeds(again)[0] == FRAMES
    choices = client.get_json("/object_info/MagicPortraitLoadSegments")
    assert name in choices["MagicPortraitLoadSegments"]["input"]["required"]["file"][1]["options"]
    tracks = client.get_json("/object_info/MagicPortraitLoadTrack")["MagicPortraitLoadTrack"]
    assert name not in tracks["input"]["required"]["file"][1]["options"], "segments are no tracks"


def test_file_that_holds_no_segments(fails):
    workflow = {
        "load": node("MagicPortraitLoadSegments", file="foreign.segments.safetensors"),
        "see": node("PreviewAny", source=["load", 1]),
    }
    assert "is a safetensors file but not a file of portrait segments" in fails(workflow, "load")


def test_segments_that_are_not_there(client, inputs):
    workflow = {
        "load": node("MagicPortraitLoadSegments", file="gone.segments.safetensors"),
        "see": node("PreviewAny", source=["load", 1]),
    }
    run = client.run(workflow)
    assert run.status == "rejected" and "'gone.segments.safetensors' is not in" in run.error


@pytest.mark.parametrize(
    ("model", "file"), [("partial", "appearance_net.safetensors"), ("released", "denoising_unet.pth")]
)
def test_model_with_files_missing_is_refused_before_anything_runs(model, file, client, inputs):
    workflow = graph()
    workflow["model"]["inputs"]["model"] = model
    run = client.run(workflow)
    assert run.status == "rejected" and file in run.error and model in run.error
    assert not any(word in run.error for word in RAW_PYTHON)


def test_model_that_was_cut_short(fails):
    workflow = graph()
    workflow["model"]["inputs"]["model"] = "cut"
    assert "denoising_unet.safetensors" in fails(workflow, "model")


def test_published_files_of_another_size(fails):
    workflow = graph()
    workflow["model"]["inputs"]["model"] = "small"
    error = fails(workflow, "model")
    assert "denoising_unet.pth does not fit the Denoising UNet" in error and "is 32, expected 320" in error


def test_model_folder_that_does_not_exist(client, inputs):
    workflow = graph()
    workflow["model"]["inputs"]["model"] = "../../input"
    run = client.run(workflow)
    assert run.status == "rejected" and "is not a folder in" in run.error, run.error
