"""A render that is killed, cancelled or robbed of its disk goes on where it was, bit for bit."""

import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_denoisers import mixing_denoiser

import magicportrait_core
from magicportrait_core import tensor_files
from magicportrait_core.diffusion.noise import frame_noise
from magicportrait_core.diffusion.sampler import sample_clip
from magicportrait_core.diffusion.schedule import ddim_schedule
from magicportrait_core.diffusion.state import RenderState, StateFile
from magicportrait_core.diffusion.windows import plan_windows

SHAPE = (4, 6, 5)
STEPS = 6
WINDOWS = plan_windows(40, overlap=2)  # 4 windows
HERE = Path(__file__)


class Cancelled(Exception):
    pass


def render(path, *, denoise=mixing_denoiser, every_steps=2, seed=3, steps=STEPS, **options):
    noise = frame_noise(seed, range(40), SHAPE)
    state_file = StateFile(path, every_steps) if path else None
    schedule = ddim_schedule(steps)
    return sample_clip(denoise, noise, schedule, WINDOWS, latent_scale=0.2, state_file=state_file, **options)


class Recorder:
    """mixing_denoiser that counts its windows and can stop at one."""

    def __init__(self, stop_at=None, error=None):
        self.windows, self.stop_at, self.error = 0, stop_at, error

    def __call__(self, latents, timestep, batch):
        if self.windows == self.stop_at:
            raise self.error
        self.windows += len(batch)
        return mixing_denoiser(latents, timestep, batch)


def assert_same(a, b):
    assert a.frames == b.frames
    assert all(torch.equal(x, y) for x, y in zip(a.latents, b.latents, strict=True))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("coupling", ["every_step", "independent"])
def test_a_killed_render_goes_on_with_the_same_result(tmp_path, coupling):
    path = tmp_path / "state.safetensors"
    folders = [Path(magicportrait_core.__file__).parents[1], HERE.parents[1] / "helpers", HERE.parent]
    code = f"""
import sys, time
sys.path[:0] = {[str(folder) for folder in folders]}
import test_resuming
def tell(done, total):
    print(done, flush=True)
    time.sleep(0.02)
test_resuming.render(test_resuming.Path({str(path)!r}), coupling={coupling!r}, on_window=tell)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    for line in child.stdout:
        if int(line) == 3 * len(WINDOWS) + 2:  # in the middle of the fourth step; two steps are saved
            child.send_signal(signal.SIGKILL)
            break
    assert child.wait() == -signal.SIGKILL
    recorder = Recorder()
    resumed = render(path, denoise=recorder, coupling=coupling)
    assert recorder.windows == (STEPS - 2) * len(WINDOWS)
    assert_same(resumed, render(None, coupling=coupling))


@pytest.mark.parametrize("coupling", ["every_step", "independent"])
@pytest.mark.parametrize("windows_done", [1, 4, 5, 8, 23])
def test_a_cancelled_render_loses_no_window(tmp_path, coupling, windows_done):
    path = tmp_path / "state.safetensors"

    def cancel(done, total):
        if done == windows_done:
            raise Cancelled

    with pytest.raises(Cancelled):
        render(path, coupling=coupling, on_window=cancel, every_steps=100)
    recorder = Recorder()
    resumed = render(path, denoise=recorder, coupling=coupling)
    assert recorder.windows == STEPS * len(WINDOWS) - windows_done
    assert_same(resumed, render(None, coupling=coupling))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("device lost")])
def test_an_error_of_the_denoiser_keeps_what_was_done(tmp_path, error):
    path = tmp_path / "state.safetensors"
    with pytest.raises(type(error)):
        render(path, denoise=Recorder(stop_at=10, error=error))
    recorder = Recorder()
    assert_same(render(path, denoise=recorder), render(None))
    assert recorder.windows == STEPS * len(WINDOWS) - 10


def test_progress_of_a_resumed_render_goes_on(tmp_path):
    path = tmp_path / "state.safetensors"
    with pytest.raises(Cancelled):
        render(path, denoise=Recorder(stop_at=6, error=Cancelled()))
    told = []
    render(path, on_window=lambda done, total: told.append((done, total)))
    assert told[0] == (7, 24)
    assert told[-1] == (24, 24)


def test_a_finished_render_is_kept_until_its_state_is_removed(tmp_path):
    path = tmp_path / "deep" / "state.safetensors"
    first = render(path)
    recorder = Recorder()
    assert_same(render(path, denoise=recorder), first)
    assert recorder.windows == 0
    (path.parent / f".{path.name}.123.part").touch()  # of a writer that was killed
    StateFile(path).remove()
    assert list(path.parent.iterdir()) == []
    StateFile(path).remove()


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"steps": 7}, {"fingerprint": "other"}, {"coupling": "independent"}]
)
def test_the_state_of_another_render_is_refused_and_kept(tmp_path, change):
    path = tmp_path / "state.safetensors"
    render(path)
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match="state.safetensors is the state of another render .* delete it to start"
    ):
        render(path, **change)
    assert path.read_bytes() == before


def test_broken_and_foreign_files_are_refused_and_kept(tmp_path):
    path = tmp_path / "state.safetensors"
    render(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello" * 100):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match="state.safetensors is not a readable state file of a render .* delete it"
        ):
            render(path)
        assert path.read_bytes() == content
    tensor_files.write_tensors(path, {"x": torch.zeros(1)}, {"format": "something"})
    with pytest.raises(
        ValueError, match="its format is 'something', expected 'magicportrait_render_state'; choose"
    ):
        render(path)


def test_a_kill_while_the_state_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    """os.replace is the moment at which the new file counts; whatever happens before it changes nothing."""
    file = StateFile(tmp_path / "state.safetensors")
    file.save(RenderState(torch.ones(SHAPE)[:, None], 1), "key")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tensor_files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        file.save(RenderState(torch.zeros(SHAPE)[:, None], 2), "key")
    state = file.load("key")
    assert state.step == 1
    assert bool((state.latents == 1).all())
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_full_disk_does_not_stop_the_render(tmp_path, caplog):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "state.safetensors"
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (1000, limits[1])
    )  # bytes a file may have: writing fails at 1000
    try:
        with caplog.at_level(logging.WARNING, "magicportrait"):
            segments = render(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "the render goes on, but its state was not saved" in caplog.text
    assert "free some space" in caplog.text
    assert list(tmp_path.iterdir()) == []
    assert_same(segments, render(None))


def test_saving_less_than_every_step_is_a_number_of_steps():
    with pytest.raises(ValueError, match="every 0 steps; expected at least 1"):
        StateFile(Path("state.safetensors"), 0)
