"""The sampler with denoisers that need no network."""

import logging

import pytest
import torch
from safetensors.torch import load_file
from toy_denoisers import KnowsTheClip, mixing_denoiser

from magicportrait_core.diffusion.aggregation import merge_segments
from magicportrait_core.diffusion.noise import frame_noise
from magicportrait_core.diffusion.sampler import sample_clip
from magicportrait_core.diffusion.schedule import ddim_schedule
from magicportrait_core.diffusion.windows import part_of, plan_windows

SHAPE = (4, 6, 5)
SCHEDULE = ddim_schedule(4)


def sample(frames, windows, denoise=mixing_denoiser, seed=1, **options):
    noise = frame_noise(seed, range(frames), SHAPE)
    return sample_clip(denoise, noise, SCHEDULE, windows, latent_scale=0.2, **options)


def by_frame(segments):
    """The latents of each segment by frame number."""
    return [
        dict(zip(frames, latent.unbind(1), strict=True))
        for frames, latent in zip(segments.frames, segments.latents, strict=True)
    ]


def test_one_step_of_the_released_pipeline(golden):
    """Its window predictions in, its latents out: average over windows, guidance, schedule."""
    values = load_file(golden / "schedule.safetensors")  # a corner of the latents: nothing mixes cells
    windows = plan_windows(20, plan="released")
    assert windows == (tuple(range(12)), (*range(11, 20), 0, 1, 2))
    seen_at_the_second_step = {}

    def released_predictions(latents, timestep, batch):
        if timestep == 666:
            seen_at_the_second_step.update(zip(batch, latents, strict=True))
        if timestep < 999:
            return torch.zeros_like(latents)
        pairs = [values[f"window{windows.index(window)}_pred"] for window in batch]
        return torch.stack([apart + 3.5 * (seen - apart) for apart, seen in pairs])

    noise = values["init_latents"][0]
    sample_clip(released_predictions, noise, ddim_schedule(3), windows, latent_scale=0.18215)
    expected = values["latents_step0"][0]
    for window in windows:
        actual = seen_at_the_second_step[window]
        torch.testing.assert_close(actual, expected[:, list(window)], rtol=0, atol=2e-6)


@pytest.mark.parametrize("coupling", ["every_step", "independent"])
@pytest.mark.parametrize("plan", ["open", "loop", "released"])
@pytest.mark.parametrize("frames", [1, 5, 12, 13, 30, 130])
def test_a_denoiser_that_knows_the_clip_gives_that_clip(frames, plan, coupling):
    clip = frame_noise(99, range(frames), SHAPE)
    windows = plan_windows(frames, plan=plan)
    for steps in (1, 3, 15):
        schedule = ddim_schedule(steps)
        noise = frame_noise(1, range(frames), SHAPE)
        denoise = KnowsTheClip(clip, schedule)
        segments = sample_clip(denoise, noise, schedule, windows, latent_scale=0.2, coupling=coupling)
        assert (segments.num_frames, segments.frames, segments.latent_scale) == (frames, windows, 0.2)
        torch.testing.assert_close(merge_segments([segments]), clip, rtol=0, atol=1e-5)


def test_coupled_windows_agree_on_shared_frames_and_independent_ones_do_not():
    windows = plan_windows(20, overlap=4)
    coupled = by_frame(sample(20, windows))
    alone = by_frame(sample(20, windows, coupling="independent"))
    shared = sorted(set(windows[0]) & set(windows[1]))
    for frame in shared:
        assert torch.equal(coupled[0][frame], coupled[1][frame])
        assert (alone[0][frame] - alone[1][frame]).abs().max() > 0.01


def test_coupled_windows_move_by_the_average_prediction():
    """One step from pure noise ends at -v: 1 where the first window looks, 2 where both do, then 3."""
    windows = ((0, 1, 2), (2, 3))
    constants = {windows[0]: -1.0, windows[1]: -3.0}

    def constant(latents, timestep, batch):
        return torch.stack([torch.full((4, len(window), 6, 5), constants[window]) for window in batch])

    noise = frame_noise(0, range(4), SHAPE)
    segments = sample_clip(constant, noise, ddim_schedule(1), windows, latent_scale=1.0)
    assert merge_segments([segments])[0, :, 0, 0].tolist() == [1, 1, 2, 3]


@pytest.mark.parametrize("coupling", ["every_step", "independent"])
def test_the_batch_of_windows_changes_rounding_only(coupling):
    windows = plan_windows(60, overlap=3)
    single = merge_segments([sample(60, windows, coupling=coupling)])
    for size in (2, 4, 100):
        batches = []

        def counting(latents, timestep, batch, batches=batches):
            batches.append(len(batch))
            return mixing_denoiser(latents, timestep, batch)

        together = sample(60, windows, counting, coupling=coupling, windows_per_batch=size)
        torch.testing.assert_close(merge_segments([together]), single, rtol=0, atol=1e-5)
        assert max(batches) == min(size, len(windows))


def test_windows_of_different_lengths_are_not_batched_together():
    windows = ((0, 1, 2), (2, 3, 4), (4, 5), (5, 6, 7))
    lengths = []

    def recording(latents, timestep, batch):
        lengths.append([len(window) for window in batch])
        return mixing_denoiser(latents, timestep, batch)

    sample(8, windows, recording, windows_per_batch=4)
    assert lengths == [[3, 3], [2], [3]] * len(SCHEDULE)


def test_independent_parts_joined_are_the_single_render_bit_for_bit():
    windows = plan_windows(50, overlap=3)
    whole = sample(50, windows, coupling="independent")
    parts = [sample(50, part_of(windows, i, 3), coupling="independent") for i in range(3)]
    for blend in ("linear", "mean"):
        assert torch.equal(merge_segments(parts[::-1], blend), merge_segments([whole], blend))


def test_a_part_of_a_coupled_render_differs_at_the_cut():
    """After one step, only in the frame that it shares with the next part; more steps carry that further."""
    windows = plan_windows(34)
    noise = frame_noise(1, range(34), SHAPE)
    whole = sample_clip(mixing_denoiser, noise, ddim_schedule(1), windows, latent_scale=0.2)
    part = sample_clip(mixing_denoiser, noise, ddim_schedule(1), part_of(windows, 0, 3), latent_scale=0.2)
    assert torch.equal(part.latents[0][:, :11], whole.latents[0][:, :11])
    assert not torch.equal(part.latents[0][:, 11], whole.latents[0][:, 11])


def test_frames_outside_a_part_are_neither_read_nor_denoised():
    windows = part_of(plan_windows(34), 1, 3)
    seen = set()

    def recording(latents, timestep, batch):
        seen.update(frame for window in batch for frame in window)
        return mixing_denoiser(latents, timestep, batch)

    noise = frame_noise(1, range(34), SHAPE)
    noise[:, :11] = float("nan")
    noise[:, 23:] = float("nan")
    previews = []
    segments = sample_clip(
        recording,
        noise,
        SCHEDULE,
        windows,
        latent_scale=0.2,
        on_step=lambda step, clean: previews.append((step, tuple(clean.shape))),
    )
    assert seen == set(range(11, 23))
    assert segments.num_frames == 34
    assert previews == [(step, (4, 12, 6, 5)) for step in range(4)]


@pytest.mark.parametrize("coupling", ["every_step", "independent"])
def test_previews_show_the_clean_clip_in_the_order_of_its_frames(coupling):
    clip = frame_noise(99, range(30), SHAPE)
    previews = []
    sample(
        30,
        plan_windows(30, plan="released"),
        KnowsTheClip(clip, SCHEDULE),
        coupling=coupling,
        on_step=lambda step, clean: previews.append(clean),
    )
    assert len(previews) == len(SCHEDULE)
    for preview in previews:
        torch.testing.assert_close(preview, clip, rtol=0, atol=1e-5)


def test_progress_counts_windows_of_all_steps():
    told = []
    sample(
        50,
        plan_windows(50),
        windows_per_batch=2,
        on_window=lambda done, total: told.append((done, total)),
    )
    assert len(plan_windows(50)) == 5
    assert told[:4] == [(2, 20), (4, 20), (5, 20), (7, 20)]
    assert told[-1] == (20, 20)


def test_on_window_can_cancel():
    class Cancelled(Exception):
        pass

    def cancel(done, total):
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        sample(50, plan_windows(50), on_window=cancel)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("MPS backend out of memory")]
)
def test_batches_that_do_not_fit_are_halved(caplog, error):
    sizes = []

    def small_device(latents, timestep, batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise error
        return mixing_denoiser(latents, timestep, batch)

    windows = plan_windows(100)
    with caplog.at_level(logging.WARNING, "magicportrait"):
        segments = sample(100, windows, small_device, windows_per_batch=9)
    assert sizes[:4] == [9, 4, 2, 2]
    assert max(sizes[2:]) == 2
    assert "out of memory with 9 windows at a time; going on with 4" in caplog.text
    expected = merge_segments([sample(100, windows)])
    torch.testing.assert_close(merge_segments([segments]), expected, rtol=0, atol=1e-5)


def test_a_single_window_that_does_not_fit_is_an_error_that_says_what_would():
    def tiny_device(latents, timestep, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(
        torch.OutOfMemoryError, match="single window: a window has 12 frames of 5x6 latent cells"
    ):
        sample(30, plan_windows(30), tiny_device)
    with pytest.raises(torch.OutOfMemoryError, match=r"single window: try \(6, 5\) in 12"):
        sample(
            30, plan_windows(30), tiny_device, memory_advice=lambda size, frames: f"try {size} in {frames}"
        )


def test_other_errors_of_the_denoiser_pass_through():
    def broken(latents, timestep, batch):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        sample(30, plan_windows(30), broken, windows_per_batch=4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_name_step_window_and_remedy(value):
    def overflowing(latents, timestep, batch):
        v = mixing_denoiser(latents, timestep, batch).half()
        if timestep == SCHEDULE.timesteps[2]:
            v[1, 0, 3] = value
        return v

    message = "frames 11-22 in step 3 of 4 .* not finite; choose bf16 or fp32"
    with pytest.raises(ValueError, match=message):
        sample(45, plan_windows(45), overflowing, windows_per_batch=2)


def test_the_denoiser_may_answer_in_half_precision():
    def half(latents, timestep, batch):
        assert latents.dtype == torch.float32 and latents.device.type == "cpu"
        return mixing_denoiser(latents, timestep, batch).half()

    segments = sample(20, plan_windows(20), half)
    assert {latent.dtype for latent in segments.latents} == {torch.float32}


@pytest.mark.parametrize(
    ("windows", "options", "message"),
    [
        ((), {}, "there are no windows"),
        (((0, 1), ()), {}, "has no frames"),
        (((0, 1, 1),), {}, "a frame twice"),
        (((0, 30),), {}, "windows of frames 0-30 but noise of shape"),
        (((0, 1),), {"windows_per_batch": 0}, "windows_per_batch=0; expected at least 1"),
        (((0, 1),), {"coupling": "none"}, "coupling='none'; expected one of every_step, independent"),
    ],
)
def test_impossible_inputs_are_refused(windows, options, message):
    with pytest.raises(ValueError, match=message):
        sample(30, windows, **options)
