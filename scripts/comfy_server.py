"""Starts a ComfyUI server of its own for this pack, apart from any other ComfyUI on the machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE_FOLDERS = ("models", "input", "output", "temp", "user", "custom_nodes")
NOT_THE_PACK = shutil.ignore_patterns(".*", "__pycache__", "tests", "demo_output", "build", "dist")


class ServerError(Exception):
    """The server did not start or died; the message ends with where its log is."""


class ComfyServer:
    """A ComfyUI process on a free loopback port with its own folders; use it in a `with` block.

    Only this pack and ComfyUI's own nodes are loaded. `base` gets the folders input, output, models, ...;
    the pack is linked into custom_nodes under pack_name (copied where links are not allowed).
    """

    def __init__(
        self,
        python: Path,
        comfyui: Path,
        base: Path,
        log: Path,
        pack: Path = ROOT,
        pack_name: str = "magicportrait",
        arguments: tuple[str, ...] = ("--cpu",),
    ):
        self.python, self.comfyui, self.base, self.log = python, comfyui, base, log
        self.pack, self.pack_name, self.arguments = pack, pack_name, arguments
        self.port = 0
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def input_folder(self) -> Path:
        return self.base / "input"

    @property
    def output_folder(self) -> Path:
        return self.base / "output"

    def __enter__(self) -> ComfyServer:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self, timeout: float = 300.0) -> None:
        """Return when the server answers; raises ServerError with the end of the log."""
        for name in BASE_FOLDERS:
            (self.base / name).mkdir(parents=True, exist_ok=True)
        link_folder(self.pack, self.base / "custom_nodes" / self.pack_name)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        command = [str(self.python), "-u", str(self.comfyui / "main.py"), "--port", str(self.port)]
        command += ["--base-directory", str(self.base), "--database-url", "sqlite:///:memory:"]
        command += ["--disable-api-nodes", "--disable-all-custom-nodes"]
        command += ["--whitelist-custom-nodes", self.pack_name, "--dont-print-server", *self.arguments]
        with open(self.log, "wb") as sink:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=self.base,
                env=server_environment(),
                start_new_session=True,  # Ctrl-C reaches the caller, which stops the server in order
            )
        try:
            self._wait_until_ready(timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process and its children; harmless when it is already gone."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the process as a crash would: at once, without a word to it."""
        self.process.kill()
        self.process.wait()

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _wait_until_ready(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if not self.alive():
                raise ServerError(f"ComfyUI stopped while starting: {self._last_words()}; log: {self.log}")
            try:
                with urllib.request.urlopen(self.url + "/system_stats", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise ServerError(f"ComfyUI did not answer within {timeout:.0f} s; log: {self.log}")

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.log_text().splitlines() if line.strip()]
        return lines[-1] if lines else "it printed nothing"


def server_environment() -> dict[str, str]:
    """This process's variables, without what would change the server's imports or reach the network."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    # Threads that wait by spinning slow each other down many times over on a machine that does other things.
    patient = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
    return {**patient, **kept, "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}


def link_folder(source: Path, target: Path) -> None:
    """Make target show source: a link, or a copy where the system forbids links."""
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)
    try:
        target.symlink_to(source, target_is_directory=True)
    except OSError:
        shutil.copytree(source, target, ignore=NOT_THE_PACK)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def local_interpreter() -> Path:
    """The Python that runs this file; it is the host's own when started through scripts/host.py."""
    return Path(sys.executable)
