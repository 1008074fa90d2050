"""What the registry, the manager and a user's ComfyUI read from the repository's files."""

import ast
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from magicportrait_core import packages
from magicportrait_core.packages import DIFFUSERS_REQUIREMENT, check_diffusers

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMFYUI_MODULES = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "server", "nodes"}
SIZE_LIMIT = 5_000_000  # bytes of a built-in asset
MODEL_LIMIT = 40_000_000  # bytes of the built-in model


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """First parts of the absolute imports of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for item in ast.walk(tree):
        if isinstance(item, ast.Import):
            names |= {alias.name.split(".")[0] for alias in item.names}
        elif isinstance(item, ast.ImportFrom) and item.level == 0:
            names.add(item.module.split(".")[0])
    return names


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_registry_fields():
    project, comfy = PROJECT["project"], PROJECT["tool"]["comfy"]
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,99}", project["name"])
    assert "comfyui" not in project["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["license"] == {"file": "LICENSE"} and (ROOT / "LICENSE").is_file()
    assert comfy["PublisherId"] and comfy["requires-comfyui"] and project["urls"]["Repository"]
    assert "web" not in comfy, "would be served under the project's name; help pages need the folder's"


def test_changelog_names_the_version():
    assert f"## {PROJECT['project']['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_only_diffusers_is_added_to_a_users_comfyui():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line.strip() and not line.startswith("#")]
    assert wanted == [DIFFUSERS_REQUIREMENT] == PROJECT["project"]["dependencies"]


@pytest.mark.parametrize("extra", ["training", "evaluation"])
def test_extras_are_the_requirement_files(extra):
    lines = (ROOT / f"requirements-{extra}.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == PROJECT["project"][
        "optional-dependencies"
    ][extra]


def test_nothing_that_needs_a_compiler_or_one_vendors_gpu_is_required():
    files = sorted(ROOT.glob("requirements*.txt"))
    assert len(files) == 5
    for path in files:
        wanted = re.findall(r"^([\w.-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        unwanted = {"dlib", "face_recognition", "face-recognition", "insightface", "bitsandbytes", "xformers"}
        assert not unwanted & {name.lower() for name in wanted}, path.name


def test_training_imports_only_what_it_asks_for(comfyui):
    """At the top of files; what is optional is imported where it is used."""
    named = [comfyui / "requirements.txt", ROOT / "requirements.txt", ROOT / "requirements-training.txt"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in named)
    names = {name.lower() for name in re.findall(r"^([\w-]+)", text, re.MULTILINE)}
    renamed = {"pillow": "PIL", "pyyaml": "yaml"}
    brought = {renamed.get(name, name) for name in names} | {"magicportrait_core", "training"}
    for path in python_files("training"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = {
            name.split(".")[0]
            for item in tree.body
            if isinstance(item, (ast.Import, ast.ImportFrom)) and not getattr(item, "level", 0)
            for name in ([item.module] if isinstance(item, ast.ImportFrom) else [a.name for a in item.names])
        }
        foreign = top - set(sys.stdlib_module_names) - brought - {"__future__"}
        assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)}"


def test_package_carries_training_and_the_model_but_no_tests():
    left_out = (ROOT / ".comfyignore").read_text(encoding="utf-8").split()
    assert "tests/" in left_out and "scripts/" in left_out
    for name in ("training/", "magicportrait_core/", "workflows/", "requirements-training.txt"):
        assert name not in left_out, f"{name} is for users"


def test_installed_diffusers_is_in_the_range():
    check_diffusers()


@pytest.mark.parametrize(
    ("release", "words"),
    [(None, "diffusers, which is not installed: run"), ("0.30.1", "diffusers 0.30.1 is older than 0.32.2")],
)
def test_without_the_right_diffusers_people_read_what_to_install(release, words, monkeypatch):
    def version(name):
        if release is None:
            raise packages.PackageNotFoundError(name)
        return release

    monkeypatch.setattr(packages, "version", version)
    with pytest.raises(ImportError, match=words) as raised:
        check_diffusers()
    assert f'"{sys.executable}" -m pip install "diffusers>=0.32.2,<0.43"' in str(raised.value)


def test_a_newer_diffusers_is_tried_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(packages, "version", lambda name: "0.43.0.dev0")
    check_diffusers()
    assert "diffusers 0.43.0.dev0 is newer than tested" in caplog.text


def test_core_imports_only_what_comfyui_brings(comfyui):
    lines = (comfyui / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = {re.split(r"[^\w-]", line)[0] for line in lines}
    brought = {"PIL" if name == "Pillow" else name for name in names} | {"diffusers", "__future__"}
    optional = {"numba", "pytorch3d"}
    for path in python_files("magicportrait_core"):
        foreign = imported_modules(path) - set(sys.stdlib_module_names) - brought - optional
        assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)}"


def test_nodes_import_core_relatively():
    for path in [*python_files("nodes"), ROOT / "comfy_entry.py", *python_files("magicportrait_core")]:
        assert "magicportrait_core" not in imported_modules(path), f"{path.name}: import it relatively"


def test_style_check_refuses_comfyui_in_core(tmp_path):
    bad = tmp_path / "magicportrait_core" / "bad.py"
    bad.parent.mkdir()
    bad.write_text(
        "import comfy.utils\nfrom comfy_api.latest import io\n\nprint(comfy, io)\n", encoding="utf-8"
    )
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--no-cache",
            "--config",
            str(ROOT / "pyproject.toml"),
            str(bad),
        ],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1 and found.stdout.count("TID251") == 2, found.stdout + found.stderr


def test_node_ids_are_literals_for_the_manager():
    """ComfyUI-Manager finds nodes by reading the source: direct ComfyNode bases and literal ids."""
    ids = set()
    for path in python_files("nodes"):
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(item, ast.Call) and getattr(item.func, "attr", "") == "Schema":
                (value,) = [keyword.value for keyword in item.keywords if keyword.arg == "node_id"]
                assert isinstance(value, ast.Constant), f"{path.name}:{value.lineno}"
                ids.add(value.value)
    assert ids and all(name.startswith("MagicPortrait") for name in ids)


def test_only_one_template_folder():
    names = ("example_workflows", "example", "examples", "workflow", "workflows")
    assert [name for name in names if (ROOT / name).is_dir()] == ["workflows"]


@pytest.mark.parametrize("name", ["face_landmarker", "open_head", "person_matte"])
def test_assets_are_small_and_explain_themselves(name):
    asset = ROOT / "magicportrait_core" / "assets" / f"{name}.safetensors"
    about = asset.with_suffix(".md").read_text(encoding="utf-8")
    assert asset.stat().st_size <= SIZE_LIMIT
    assert "sha256" in about and re.search(r"licen[cs]e|CC0", about, re.IGNORECASE)
    assert asset.name in (ROOT / "NOTICE").read_text(encoding="utf-8")


def test_built_in_model_is_small_and_explains_itself():
    folder = ROOT / "magicportrait_core" / "assets" / "small"
    files = list(folder.glob("*.safetensors"))
    assert "denoising_unet.safetensors" in {file.name for file in files}
    assert sum(file.stat().st_size for file in files) <= MODEL_LIMIT
    card = (ROOT / "training" / "small" / "README.md").read_text(encoding="utf-8")
    lines = [f"| `{file.name}` | `{sha256(file)}` |" for file in files]
    assert all(line in card for line in lines), "the model card's table has to be\n" + "\n".join(lines)
    assert "assets/small" in (ROOT / "NOTICE").read_text(encoding="utf-8")


def test_shared_torch_set_is_consistent():
    """torchvision and torchaudio of another release stop ComfyUI at its start."""
    text = (ROOT / "requirements-host.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^(\w+)==([\d.]+)$", text, re.MULTILINE))
    torch_minor = int(pins["torch"].split(".")[1])
    assert pins["torchaudio"] == pins["torch"]
    assert int(pins["torchvision"].split(".")[1]) == torch_minor + 15
