"""GGE Encode and MagicPortrait Sampler in this process, on a toy model, with the values of the host."""

import gc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import comfy.model_management
import comfy.sd
import folder_paths
import latent_preview
import pytest
import torch
from comfy.cli_args import LatentPreviewMethod, args
from magicportrait_pack.magicportrait_core.autoencoder import Autoencoder
from magicportrait_pack.magicportrait_core.diffusion.aggregation import merge_segments
from magicportrait_pack.magicportrait_core.guidance import GuidanceMaps
from magicportrait_pack.magicportrait_core.pipeline import animate
from magicportrait_pack.magicportrait_core.render_options import ReenactOptions
from magicportrait_pack.nodes import aggregation, foreign_inputs, host, motion, patchers, render, states
from toy_model import TOY
from toy_render import PORTRAIT, TEXT, random, taesd, toy_model

SIZE = (64, 128)  # height, width in pixels
FRAMES = 14  # three windows of 6


class Interrupted(BaseException):
    """As the host's interruption: no Exception."""


@pytest.fixture(scope="module")
def model():
    return patchers.host_model(toy_model())


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return taesd(tmp_path_factory.mktemp("vae"), "taesd", 4)


def maps(frames: int = FRAMES, size=SIZE) -> GuidanceMaps:
    parts = [(random(frames, channels, *size) * 255).to(torch.uint8) for channels in (1, 3, 3)]
    return GuidanceMaps(*parts, torch.ones(frames, 1, *size, dtype=torch.uint8))


@pytest.fixture(scope="module")
def features(model):
    with torch.inference_mode():  # as nodes run
        return motion.encode(model, maps(), SIZE, {})


OPTIONS = ReenactOptions(steps=3, save_every=1)


def run(model, vae, features, options=OPTIONS, share=None, text=TEXT, portrait=PORTRAIT):
    with torch.inference_mode():
        return render.render(model, portrait, vae, features, text, options, share or render.Share())


@pytest.fixture(scope="module")
def whole(model, vae, features):
    return run(model, vae, features)[0]


def test_the_nodes_give_what_the_library_gives(model, vae, features, whole):
    class Library(Autoencoder):
        """The host's VAE as the library's."""

        fingerprint, latent_channels, pixels_per_cell = "", 4, 8

        def encode(self, pictures):
            return vae.encode(host.to_image(pictures))

    network = torch.nn.Linear(1, 1)
    network.config = SimpleNamespace(scaling_factor=TOY.latent_scale)
    options = replace(OPTIONS, shorter_side=64)
    expected = animate(PORTRAIT, maps(), toy_model(), Library(network, "toy"), TEXT[0][0], options)
    torch.testing.assert_close(merge_segments([whole]), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.1


@pytest.mark.parametrize("frames", [1, 5])
def test_clips_shorter_than_a_window(frames, model, vae):
    segments, report = run(model, vae, motion.encode(model, maps(frames), SIZE, {}))
    assert [len(window) for window in segments.frames] == [frames]
    assert segments.latents[0].isfinite().all() and f"{frames} of {frames} frames in 1 window of" in report


def test_the_result_goes_to_the_hosts_vae_in_its_own_scale(whole, vae):
    output = aggregation.TemporalAggregate.execute({"segments0": whole, "segments1": None}, "mean")
    (latent,) = output.result
    assert latent["samples"].shape == (FRAMES, 4, 8, 16)
    torch.testing.assert_close(latent["samples"][3] * TOY.latent_scale, merge_segments([whole])[:, 3])
    assert vae.decode(latent["samples"]).shape == (FRAMES, *SIZE, 3)


def test_only_the_denoising_unet_is_loaded_while_it_works(model, vae, features, monkeypatch):
    seen = []
    network = model.denoising_unet.model
    compute = network.forward_pair

    def watch(*inputs):
        seen.append(comfy.model_management.loaded_models())
        return compute(*inputs)

    monkeypatch.setattr(network, "forward_pair", watch)
    run(model, vae, features)
    assert seen and all(loaded[0] is model.denoising_unet for loaded in seen)
    for other in (model.appearance_net, model.guidance_encoders, vae.patcher):
        assert all(other not in loaded for loaded in seen)


def test_the_host_may_take_everything_between_two_runs(model, vae, features, whole):
    comfy.model_management.unload_all_models()
    again = run(model, vae, features)[0]
    assert all(torch.equal(a, b) for a, b in zip(again.latents, whole.latents, strict=True))


@pytest.mark.parametrize("state", ["NO_VRAM", "LOW_VRAM", "NORMAL_VRAM"])
def test_a_card_that_is_too_small_renders_the_same(state, model, vae, features, whole, monkeypatch):
    """The host's own decisions for --novram, --lowvram and neither; the CPU stands for a full card."""
    host_memory = comfy.model_management

    def nearly_none(device=None, torch_free_too=False):
        free = host_memory.minimum_inference_memory()
        return (free, 0) if torch_free_too else free

    host_memory.unload_all_models()
    monkeypatch.setattr(host_memory, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(host_memory, "vram_state", host_memory.VRAMState[state])
    monkeypatch.setattr(host_memory, "lowvram_available", True)
    monkeypatch.setattr(host_memory, "get_free_memory", nearly_none)
    monkeypatch.setattr(host_memory, "MIN_WEIGHT_MEMORY_RATIO", 0.0)
    again = run(model, vae, features)[0]
    network = model.denoising_unet
    assert network.model.model_lowvram and network.loaded_size() == 0
    assert all(torch.equal(a, b) for a, b in zip(again.latents, whole.latents, strict=True))
    monkeypatch.undo()
    host_memory.unload_all_models()
    assert not network.model.model_lowvram


def kept() -> list[Path]:
    return sorted(Path(folder_paths.get_user_directory(), "magicportrait/renders").glob("*"))


def test_state_goes_on_where_it_stopped_and_outlives_the_render(model, vae, features, whole, monkeypatch):
    network, windows = model.denoising_unet.model, []
    compute = network.forward_pair

    def stop_at_the_fifth_window(*inputs):
        windows.append(1)
        if len(windows) == 5:
            raise Interrupted
        return compute(*inputs)

    monkeypatch.setattr(network, "forward_pair", stop_at_the_fifth_window)
    with pytest.raises(Interrupted):
        run(model, vae, features)
    assert len(kept()) == 1
    again, report = run(model, vae, features)
    assert len(windows) == 5 + (9 - 4), "four windows of nine are not computed again"
    assert "went on from a render that had stopped at 44%" in report
    assert all(torch.equal(a, b) for a, b in zip(again.latents, whole.latents, strict=True))
    assert len(kept()) == 1
    third, report = run(model, vae, features)
    assert len(windows) == 10 and "finished before" in report, "a failure after the sampler costs nothing"
    assert all(torch.equal(a, b) for a, b in zip(third.latents, whole.latents, strict=True))


def test_cancelling_does_not_wait_for_the_window(model, vae, features, monkeypatch):
    """The button is looked at before each layer, thousands of times in one window."""
    looks = []

    def look():
        looks.append(1)
        if len(looks) == 1000:
            raise Interrupted

    monkeypatch.setattr(host, "check_cancelled", look)
    with pytest.raises(Interrupted):
        run(model, vae, features)
    assert len(looks) == 1000
    monkeypatch.undo()
    layer = model.denoising_unet.model.conv_in
    assert not layer._forward_pre_hooks, "nothing stays on the network"


def test_another_seed_does_not_go_on_from_a_state(model, vae, features, monkeypatch):
    identities = [
        render.render_identity(replace(OPTIONS, **change), "same")
        for change in (
            {},
            {"seed": 1},
            {"steps": 4},
            {"plan": "loop"},
            {"overlap": 2},
            {"coupling": "independent"},
            {"guidance_scale": 2.0},
            {"guidance_strength": 0.5},
        )
    ]
    assert len(set(identities)) == len(identities)


def test_another_vae_is_another_render(vae, tmp_path):
    first = foreign_inputs.vae_fingerprint(vae, TOY)
    assert foreign_inputs.vae_fingerprint(taesd(tmp_path, "taesd", 4), TOY) == first
    assert foreign_inputs.vae_fingerprint(taesd(tmp_path, "taesd", 4, scale=0.13025), TOY) != first


def test_forgotten_states_are_removed(monkeypatch):
    import os

    folder = Path(folder_paths.get_user_directory(), "magicportrait/renders")
    folder.mkdir(parents=True)
    for name, age in (("old", states.KEPT_SECONDS + 60), ("new", 60)):
        path = folder / f"{name}.safetensors"
        path.touch()
        changed = path.stat().st_mtime - age
        os.utime(path, (changed, changed))
    assert states.state_file("a", 1, 1, 0) is None
    assert [path.stem for path in kept()] == ["new"]
    monkeypatch.setattr(states, "KEPT_BYTES", 5)
    for age, name in enumerate(("newest", "newer")):
        path = folder / f"{name}.safetensors"
        path.write_bytes(b"1234")
        os.utime(path, (path.stat().st_mtime - age, path.stat().st_mtime - age))
    assert states.state_file("a", 1, 1, 0) is None
    assert [path.stem for path in kept()] == ["newest"], "the oldest of too many go"
    assert states.state_file("a", 1, 2, 5).path.name == "a_1_of_2.safetensors"


def test_segments_of_machines_that_differ_a_little_belong_together(model, vae, features):
    slightly = replace(features, fingerprint="tracked on another machine")
    first, other = (run(model, vae, each)[0] for each in (features, slightly))
    assert first.render == other.render
    assert run(model, vae, features, portrait=-PORTRAIT)[0].render != first.render


def test_independent_parts_are_one_render(model, vae, features):
    options = replace(OPTIONS, coupling="independent")
    alone = run(model, vae, features, options)[0]
    parts = [run(model, vae, features, options, render.Share(part, 3))[0] for part in (3, 1, 2)]
    assert torch.equal(merge_segments(parts), merge_segments([alone]))
    with pytest.raises(ValueError, match="no segment holds frames"):
        merge_segments(parts[:2])


@pytest.mark.parametrize(
    ("part", "parts", "words"),
    [
        (3, 2, "part is 3 but parts is 2: choose part 1 to 2"),
        (1, 4, "parts is 4, but the clip has 3 windows"),
    ],
)
def test_parts_that_do_not_exist(part, parts, words, model, vae, features):
    with pytest.raises(ValueError, match=words):
        run(model, vae, features, share=render.Share(part, parts))


def test_windows_of_another_length(model, vae, features):
    segments = run(model, vae, features, replace(OPTIONS, window_frames=4))[0]
    assert {len(window) for window in segments.frames} == {4}


def test_a_prediction_that_is_not_finite_names_the_remedy(model, vae, features):
    weight = model.denoising_unet.model.conv_out.weight
    before = weight.detach().clone()
    try:
        weight.data.fill_(float("nan"))
        with pytest.raises(ValueError, match="not finite.* choose bf16 or fp32 in Load MagicPortrait Model"):
            run(model, vae, features)
    finally:
        weight.data.copy_(before)


def test_out_of_memory_names_smaller_values(model, vae, monkeypatch):
    def full(*inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    size = (256, 512)
    features = motion.encode(model, maps(8, size), size, {})
    monkeypatch.setattr(model.denoising_unet.model, "forward_pair", full)
    monkeypatch.setattr(patchers, "free_bytes", lambda network: 20_000_000)  # a window needs 35 MB
    with pytest.raises(torch.OutOfMemoryError) as error:
        run(model, vae, features)
    assert comfy.model_management.is_oom(error.value), "the host frees its models for errors of this kind"
    text = str(error.value)
    assert "out of memory with a single window: a window of 6 frames at 512x256 pixels in float32" in text
    assert "any of these would do: a working size of" in text, text


def test_fewer_windows_are_tried_before_giving_up(model, vae, features, whole, monkeypatch, caplog):
    network = model.denoising_unet.model
    compute = network.forward_pair

    def room_for_one(latents, *inputs):
        if len(latents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(latents, *inputs)

    monkeypatch.setattr(network, "forward_pair", room_for_one)
    again = run(model, vae, features, replace(OPTIONS, windows_per_batch=3))[0]
    torch.testing.assert_close(merge_segments([again]), merge_segments([whole]))
    assert "going on with 1" in caplog.text


def test_out_of_memory_in_the_encoders_names_the_size(model, monkeypatch):
    def full(*inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.guidance_encoders.model, "forward", full)
    with pytest.raises(
        torch.OutOfMemoryError, match="at 128x64 pixels: choose a size below 64 in GGE Encode"
    ):
        motion.encode(model, maps(2), SIZE, {})


def test_strengths_of_zero_silence_a_map(model):
    some = maps(1)
    other = replace(some, render_levels=255 - some.render_levels)
    silent, loud = {"render": 0.0}, {"render": 1.0}
    a, b, c = (
        motion.encode(model, m, SIZE, s).values for m, s in ((some, silent), (other, silent), (other, loud))
    )
    assert torch.equal(a, b) and not torch.equal(b, c)


def test_features_of_long_clips_lie_in_a_file_that_goes_with_them(model, features, monkeypatch):
    monkeypatch.setattr(motion, "IN_MEMORY", 0)
    long = motion.encode(model, maps(), SIZE, {})
    files = list(Path(folder_paths.get_temp_directory()).rglob("features_*"))
    assert len(files) == 1 and torch.equal(long.values, features.values)
    assert files[0].stat().st_size == motion.feature_bytes(model.model.config, FRAMES, SIZE, torch.float32)
    del long
    gc.collect()
    assert not files[0].exists()


def test_a_cancelled_encoding_leaves_no_file(model, monkeypatch):
    def cancel():
        if list(Path(folder_paths.get_temp_directory()).rglob("features_*")):
            raise Interrupted

    monkeypatch.setattr(motion, "IN_MEMORY", 0)
    monkeypatch.setattr(host, "check_cancelled", cancel)
    with pytest.raises(Interrupted):
        motion.encode(model, maps(), SIZE, {})
    assert list(Path(folder_paths.get_temp_directory()).rglob("features_*")) == []


def test_previews_show_three_frames_of_a_window(model, vae, features, monkeypatch):
    shown, said = [], []
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
    monkeypatch.setattr(host.comfy.utils, "PROGRESS_BAR_HOOK", lambda *a, **k: shown.append(a))
    monkeypatch.setattr(host, "say", said.append)
    run(model, vae, features)
    pictures = [preview[1] for _, _, preview, *_ in shown if preview is not None]
    assert pictures and pictures[0].size == (3 * SIZE[1] // 8, SIZE[0] // 8)
    assert said[-1].startswith("step 3 of 3, window 3 of 3, 0:00 left"), said
    values = [value for value, *_ in shown]
    assert values == sorted(values) and shown[-1][0] == shown[-1][1]


def test_previews_are_off_when_the_host_says_so(features, monkeypatch):
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.NoPreviews)
    assert latent_preview.get_previewer(torch.device("cpu"), None) is None
