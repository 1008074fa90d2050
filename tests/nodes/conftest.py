"""ComfyUI for tests: in this process as `magicportrait_pack.nodes`, and as a real server over HTTP.

ComfyUI is looked for at COMFYUI_PATH, then in the cache of scripts/host.py; else this folder is skipped.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest
from comfy_client import ComfyClient
from comfy_server import ComfyServer, local_interpreter
from host import COMFYUI_VERSION, cache_folder

ROOT = Path(__file__).resolve().parents[2]
ALIAS = "magicportrait_pack"  # the pack as a package: `from magicportrait_pack.nodes import tracking`
SERVER_ARGUMENTS = (
    "--cpu",
    "--preview-method",
    "latent2rgb",
)  # the browser asks for previews, our client cannot
FOLDER_NAME = "Magic-Portrait_Pack"  # folder names come from users and managers: nothing may depend on them


RELEASED_PLACES = {
    "heads": (
        "generic_model.pkl",
        "head_template.obj",
        "FLAME_texture.npz",
        "l_eyelid.npy",
        "r_eyelid.npy",
    ),
    "trackers": ("deca_model.tar", "SMIRK_em1.pt"),
}


def find_comfyui() -> Path | None:
    chosen = os.environ.get("COMFYUI_PATH")
    folder = Path(chosen).expanduser() if chosen else cache_folder() / f"ComfyUI-{COMFYUI_VERSION}"
    return folder.resolve() if (folder / "main.py").is_file() else None


COMFYUI = find_comfyui()


def join_process() -> None:
    """Make ComfyUI's modules and the pack importable here, on the CPU and with its own `nodes` untouched."""
    if str(COMFYUI) not in sys.path:
        sys.path.insert(0, str(COMFYUI))
    from comfy.cli_args import args

    args.cpu = True  # before comfy.model_management looks for a device
    if ALIAS not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            ALIAS, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        sys.modules[ALIAS] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[ALIAS])


if COMFYUI is None:
    collect_ignore_glob = ["test_*.py"]
else:
    join_process()


def pytest_report_header() -> str:
    return f"ComfyUI: {COMFYUI or 'not found, tests/nodes is skipped (python scripts/host.py brings it)'}"


@pytest.fixture(autouse=True, scope="module")
def _folders_of_module(tmp_path_factory):
    """What nodes keep while a module's fixtures are made: not in ComfyUI's own folders, where the next run of
    the tests would find it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_folders(tmp_path_factory.mktemp("host"), monkeypatch)
        yield


@pytest.fixture(autouse=True)
def _folders_of_test(tmp_path, monkeypatch):
    """Each test starts with empty ones."""
    use_folders(tmp_path, monkeypatch)


def use_folders(place: Path, monkeypatch) -> None:
    import folder_paths

    monkeypatch.setattr(folder_paths, "user_directory", str(place / "user"))
    monkeypatch.setattr(folder_paths, "temp_directory", str(place / "temp"))


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """The folder of ComfyUI's source."""
    return COMFYUI


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One real ComfyUI for the whole session, with the pack under a folder name of its own."""
    base = tmp_path_factory.mktemp("comfyui")
    with ComfyServer(
        local_interpreter(), COMFYUI, base, base / "server.log", ROOT, FOLDER_NAME, SERVER_ARGUMENTS
    ) as running:
        yield running


@pytest.fixture(scope="session")
def client(server) -> ComfyClient:
    return ComfyClient(server.url)


@pytest.fixture(scope="session")
def object_info(client) -> dict:
    """Every node the server offers, as it describes them to its clients."""
    return client.get_json("/object_info")


@pytest.fixture(scope="session")
def toy_models(server) -> None:
    """A toy MagicPortrait with and without a text embedding, an autoencoder and a text encoder; small models
    that start from the warp, of random weights and as they are before their training."""
    from toy_model import write_model, write_models, write_small_model

    models = server.base / "models"
    write_models(models)
    write_model(models / "magicportrait" / "toy_with_text", text=True)
    write_small_model(models / "magicportrait" / "toy_small")
    write_small_model(models / "magicportrait" / "toy_untrained", untrained=True)
    yield
    (
        models / "text_encoders" / "clip_l.safetensors"
    ).unlink()  # 250 MB; pytest keeps folders of three sessions


@pytest.fixture(scope="session")
def toy_inputs(server) -> Path:
    """The input folder with a small portrait and clips of one man, one of them with sound."""
    from example_workflows import write_toy_inputs

    write_toy_inputs(server.input_folder)
    return server.input_folder


@pytest.fixture(scope="session")
def released_files(tmp_path_factory):
    """Stand-ins for the licensed files, in one folder; 230 MB."""
    from released_files import write_released_files

    folder = tmp_path_factory.mktemp("released")
    yield write_released_files(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def released_models(server, released_files):
    """The same where the server looks for them, while a module is tested."""
    models = server.base / "models" / "magicportrait"
    for folder, names in RELEASED_PLACES.items():
        (models / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copy(released_files.flame.parent / name, models / folder / name)
    yield released_files
    for folder, names in RELEASED_PLACES.items():
        for name in names:
            (models / folder / name).unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def _server_log_on_failure(request):
    """After a failed test that used the server, print the end of the server's log."""
    yield
    report = getattr(request.node, "call_report", None)
    if report is not None and report.failed and "server" in request.fixturenames:
        print("\n".join(request.getfixturevalue("server").log_text().splitlines()[-40:]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.call_report = report
    return report
