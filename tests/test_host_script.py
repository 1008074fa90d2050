"""scripts/host.py: where things go, when work is repeated, what people read when it fails."""

import errno
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import host
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MAGICPORTRAIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def test_cache_folder_follows_the_system(monkeypatch):
    monkeypatch.delenv("MAGICPORTRAIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/cache")
    monkeypatch.setattr(host.sys, "platform", "linux")
    assert host.cache_folder() == Path("/somewhere/cache/magicportrait")
    monkeypatch.setattr(host.sys, "platform", "darwin")
    assert host.cache_folder().parts[-3:] == ("Library", "Caches", "magicportrait")
    monkeypatch.setattr(host.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert host.cache_folder() == Path("/local/magicportrait")


def test_comfyui_path_must_be_a_comfyui(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(host.HostError, match="has no main.py and requirements.txt: name the folder"):
        host.given_comfyui()
    for name in ("main.py", "requirements.txt"):
        (tmp_path / name).write_text("", encoding="utf-8")
    assert host.given_comfyui() == tmp_path.resolve()


def test_old_python_is_told_so(cache, monkeypatch):
    monkeypatch.setattr(host.sys, "version_info", (3, 9, 1))
    with pytest.raises(host.HostError, match="Python 3.9 is too old: run this with Python 3.10 or newer"):
        host.prepare(say=lambda text: None)


def test_full_disk_is_told_before_anything_is_downloaded(cache, monkeypatch):
    usage = host.shutil.disk_usage(cache)
    monkeypatch.setattr(host.shutil, "disk_usage", lambda path: usage._replace(free=host.GIGABYTE))
    with pytest.raises(host.HostError, match="has 1.0 GB free and the set-up needs about 12 GB"):
        host.cached_python(cache, say=lambda text: None)


def test_disk_that_fills_up_meanwhile_is_one_sentence(cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(host, "cached_python", full)
    with pytest.raises(host.HostError, match="free some space or set MAGICPORTRAIT_CACHE"):
        host.prepare(say=lambda text: None)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("WARNING: Retrying ... Failed to establish a new connection: [Errno 111]", "cannot be reached"),
        ("ERROR: Could not find a version that satisfies the requirement x (from versions: none)", "network"),
        ("ERROR: [Errno 28] No space left on device", "GB free"),
        ("ERROR: Cannot install a and b", "could not install the packages (Cannot install a and b)"),
    ],
)
def test_pip_failures_become_one_sentence(cache, output, words):
    sentence = host.pip_sentence(output, cache, cache / "logs" / "pip.log")
    assert words in sentence and "\n" not in sentence


def test_finished_set_up_is_not_repeated_and_changed_requirements_are_noticed(cache, tmp_path, monkeypatch):
    comfyui = tmp_path / "ComfyUI"
    comfyui.mkdir()
    (comfyui / "requirements.txt").write_text("numpy\n", encoding="utf-8")
    python = cache / "python" / "bin" / "python"
    python.parent.mkdir(parents=True)
    asked = []
    monkeypatch.setattr(host, "run_pip", lambda python, arguments, cache, say: asked.append(arguments))
    done = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(host.subprocess, "run", lambda *_, **__: done)
    for _ in range(2):
        host.install_requirements(python, comfyui, cache, say=lambda text: None)
    assert len(asked) == 1
    (comfyui / "requirements.txt").write_text("numpy\nscipy\n", encoding="utf-8")
    host.install_requirements(python, comfyui, cache, say=lambda text: None)
    assert len(asked) == 2


def test_oldest_diffusers_is_the_lower_bound_and_installed_once(cache, monkeypatch):
    asked = []

    def install(python, arguments, cache, say):
        asked.append(arguments[-1])

    monkeypatch.setattr(host, "run_pip", install)
    made = host.Host(cache / "python", cache / "ComfyUI", cache)
    folders = {host.oldest_diffusers(made, say=print) for _ in range(2)}
    assert folders == {cache / "diffusers-0.32.2"} and asked == ["diffusers==0.32.2"]


def test_packages_whose_installation_was_killed_are_installed_again(tmp_path):
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, files in {
        "whole-1.dist-info": ("METADATA", "RECORD"),
        "killed-1.dist-info": ("METADATA",),
    }.items():
        (site / name).mkdir(parents=True)
        for file in files:
            (site / name / file).write_text("", encoding="utf-8")
    (site / "~orch").mkdir()
    host.forget_broken_packages(tmp_path)
    assert sorted(path.name for path in site.iterdir()) == ["whole-1.dist-info"]


def test_unpack_takes_one_folder_and_refuses_to_leave_it(tmp_path):
    def archive(names: list[str]) -> Path:
        path = tmp_path / "carrier.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = 2
                tar.addfile(member, io.BytesIO(b"ok"))
        return path

    host.unpack(archive(["c-1/vendor/ComfyUI/a/b.py", "c-1/other.py"]), "vendor/ComfyUI", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["b.py"]
    with pytest.raises(host.HostError, match="outside its folder"):
        host.unpack(archive(["c-1/vendor/ComfyUI/../../../x.py"]), "vendor/ComfyUI", tmp_path / "out2")


def test_second_set_up_waits_for_the_first(tmp_path):
    said = []
    with host.exclusive(tmp_path / "lock", said.append):
        with open(tmp_path / "lock", "a+b") as second:
            assert not host.try_lock(second)
    with host.exclusive(tmp_path / "lock", said.append):
        assert said == []


def test_other_packages_do_not_leak_into_the_cached_python(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    cleaned = host.clean_environment()
    assert "PYTHONPATH" not in cleaned and "PIP_TARGET" not in cleaned
    assert cleaned["PYTHONNOUSERSITE"] == "1" and cleaned["PATH"] == os.environ["PATH"]


def test_script_explains_itself():
    shown = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "host.py"), "--help"], capture_output=True, text=True
    )
    assert shown.returncode == 0 and "COMFYUI_PATH" in shown.stdout


def test_stamp_that_is_not_ours_is_ignored(tmp_path):
    stamp = tmp_path / "stamp.json"
    assert host.read_stamp(stamp) is None
    for text in ("", "[]", json.dumps({"other": 1})):
        stamp.write_text(text, encoding="utf-8")
        assert host.read_stamp(stamp) is None
