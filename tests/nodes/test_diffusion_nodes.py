"""Lists, choices and schemas of the diffusion nodes."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import comfy.model_management
import folder_paths
import pytest
import torch
from comfy_api.latest import io
from magicportrait_pack.magicportrait_core import built_in
from magicportrait_pack.magicportrait_core.models.config import SD15, SMALL
from magicportrait_pack.nodes import (
    NODES,
    aggregation,
    host,
    licensed_files,
    model_files,
    motion,
    sampling,
    saved_files,
    segment_files,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def _model_folder():
    host.register_model_folder()  # as the entry point does


@pytest.fixture
def models(tmp_path, monkeypatch):
    """models/magicportrait with a few files in it."""
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, host.MODEL_KIND, ([str(tmp_path)], host.MODEL_EXTENSIONS)
    )
    for name in ("mine/denoising_unet.safetensors", "deep/er/denoising_unet.pth", "heads/landmarks.pth"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "heads/flame2023.pkl").write_bytes(b"")
    folder_paths.filename_list_cache.pop(host.MODEL_KIND, None)
    yield tmp_path
    folder_paths.filename_list_cache.pop(host.MODEL_KIND, None)


def choice_of_a_new_node() -> str:
    return inputs_of(model_files.LoadModel)["model"].default


def test_folders_with_a_denoising_unet_are_models(models):
    assert model_files.model_choices() == ["deep/er", "mine", "small (built in)", "released"]
    assert choice_of_a_new_node() == "deep/er", "who has models of their own wants these"


def test_the_place_of_the_published_files_is_listed_once(models):
    (models / "released").mkdir()
    (models / "released/denoising_unet.pth").write_bytes(b"")
    folder_paths.filename_list_cache.pop(host.MODEL_KIND, None)
    assert model_files.model_choices() == ["deep/er", "mine", "released", "small (built in)"]


def test_without_any_file_the_built_in_model_is_chosen(models):
    for name in ("mine", "deep"):
        shutil.rmtree(models / name)
    folder_paths.filename_list_cache.pop(host.MODEL_KIND, None)
    assert model_files.model_choices() == ["small (built in)", "released"]
    assert choice_of_a_new_node() == "small (built in)"


def test_a_built_in_model_that_did_not_come_along_is_explained(models, monkeypatch):
    monkeypatch.setattr(built_in, "_FOLDER", models / "nowhere")
    text = model_files.LoadModel.validate_inputs("small (built in)")
    assert "is not in this copy of the package" in text and "install the package again" in text


def test_files_of_models_are_no_heads(models):
    assert licensed_files.head_files() == ["heads/flame2023.pkl"]


def test_a_model_without_files_is_explained(models):
    with pytest.raises(FileNotFoundError) as error:
        model_files.model_folder("released")
    text = str(error.value)
    assert str(models / "released") in text and "\n" not in text
    for name in (
        "denoising_unet.pth",
        "motion_module-47360.pth",
        "reference_unet.pth",
        "guidance_encoder_normal.pth",
    ):
        assert name in text
    assert model_files.LoadModel.validate_inputs("released") == text


@pytest.mark.parametrize("name", ["..", "../elsewhere", "/etc"])
def test_models_are_read_from_their_folder_only(name, models):
    with pytest.raises(FileNotFoundError, match="is not a folder in"):
        model_files.model_folder(name)


def test_a_file_that_changed_is_loaded_again(models, monkeypatch):
    monkeypatch.setattr(model_files, "model_folder", lambda choice: models / choice)
    before = model_files.LoadModel.fingerprint_inputs("mine", "auto")
    assert before == model_files.LoadModel.fingerprint_inputs("mine", "auto")
    assert before != model_files.LoadModel.fingerprint_inputs("mine", "fp16")
    os.utime(models / "mine/denoising_unet.safetensors", (1, 1))
    assert before != model_files.LoadModel.fingerprint_inputs("mine", "auto")


@pytest.mark.parametrize(
    ("answer", "dtype"),
    [
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
        (torch.float8_e4m3fn, torch.float32),
        (torch.float64, torch.float32),
    ],
)
def test_auto_precision_is_the_hosts_choice(answer, dtype, monkeypatch):
    monkeypatch.setattr(comfy.model_management, "unet_dtype", lambda *_: answer)
    assert model_files.torch_dtype("auto") is dtype
    assert model_files.torch_dtype("bf16") is torch.bfloat16


def test_a_cpu_computes_in_float32():
    assert model_files.torch_dtype("auto") is torch.float32


def inputs_of(node: type[io.ComfyNode]) -> dict:
    return {item.id: item for item in node.GET_SCHEMA().inputs}


@pytest.mark.parametrize(
    ("node", "name"),
    [
        *((motion.EncodeGuidance, name) for name in ("depth", "normal", "render")),
        (sampling.Sampler, "guidance_strength"),
    ],
)
def test_strengths_are_one_by_default_and_reach_zero(node, name):
    item = inputs_of(node)[name]
    assert (item.min, item.default, item.max) == (0, 1, 2) and math.isclose(item.step, 0.05)


def test_the_defaults_are_as_usual_for_the_model():
    defaults = {name: getattr(item, "default", None) for name, item in inputs_of(sampling.Sampler).items()}
    assert (defaults["steps"], defaults["guidance_scale"], defaults["seed"]) == (0, 0, 42)
    assert (SD15.steps, SD15.guidance_scale) == (20, 3.5) and (SMALL.steps, SMALL.guidance_scale) == (1, 1)
    assert defaults["window_plan"] == "open-ended" and defaults["overlap"] == 1
    assert inputs_of(sampling.Sampler)["seed"].control_after_generate


def test_every_choice_has_a_meaning_in_the_library():
    from typing import get_args

    from magicportrait_pack.magicportrait_core.diffusion.aggregation import Blend
    from magicportrait_pack.magicportrait_core.diffusion.layout import Coupling
    from magicportrait_pack.magicportrait_core.diffusion.windows import WindowPlan

    assert set(sampling.PLANS.values()) == set(get_args(WindowPlan))
    assert set(sampling.COUPLINGS.values()) == set(get_args(Coupling))
    assert set(aggregation.BLENDS) == set(get_args(Blend))


def test_segments_and_tracks_lie_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    for name in ("output/magicportrait/a.segments.safetensors", "output/magicportrait/b.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "input").mkdir()
    (tmp_path / "input/c.segments.safetensors").write_bytes(b"")
    segments = saved_files.choices(segment_files.ENDING)
    assert segments == ["magicportrait/a.segments.safetensors [output]", "c.segments.safetensors"]
    tracks = saved_files.choices(saved_files.EXTENSION, without=segment_files.ENDING)
    assert tracks == ["magicportrait/b.safetensors [output]"]
    assert segment_files.segments_path(segments[0]).name == "a.segments.safetensors"


def test_every_node_has_a_help_page():
    for node in NODES:
        page = ROOT / "web/docs" / f"{node.GET_SCHEMA().node_id}.md"
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {node.GET_SCHEMA().display_name}\n")
        for name in inputs_of(node):
            assert f"**{name}**" in text, f"{page.name} does not explain {name}"


def test_comfyui_starts_without_diffusers(comfyui):
    script = (
        "import sys; from conftest import join_process; join_process()\n"
        "from magicportrait_pack.nodes import NODES\n"
        "from magicportrait_pack.nodes import host; host.register_model_folder()\n"
        "[node.GET_SCHEMA() for node in NODES]\n"
        "assert 'diffusers' not in sys.modules"
    )
    folders = os.pathsep.join(map(str, (ROOT / "tests/nodes", ROOT / "scripts")))
    environment = os.environ | {"PYTHONPATH": folders, "COMFYUI_PATH": str(comfyui)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=comfyui
    )
    assert done.returncode == 0, done.stderr
