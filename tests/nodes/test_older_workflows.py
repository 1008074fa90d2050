"""API files that users keep from version 0.1.0 (tests/golden/api_0.1.0) still fit the nodes and run."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_pictures import write_driving, write_portrait
from workflow_graphs import DRIVING, PORTRAIT

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "api_0.1.0"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
WITHOUT_WEIGHTS = ("guidance_maps", "portrait_warp_preview", "reenactment_small", "save_track")
FILES = ("model", "file", "head", "deca", "smirk", "texture")  # chosen from what is installed


def old(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def inputs(server) -> Iterator[None]:
    write_portrait(None, server.input_folder / PORTRAIT)
    write_driving(server.input_folder / DRIVING, max_frames=3)
    saved = server.output_folder / "magicportrait"
    before = set(saved.glob("track_*"))
    yield
    for track in set(saved.glob("track_*")) - before:  # other tests load the first track by its name
        track.unlink()


def test_all_workflows_of_that_version_are_kept():
    assert len(NAMES) == 8


@pytest.mark.parametrize("name", NAMES)
def test_an_older_api_file_has_what_the_nodes_ask_for_within_their_ranges(name, object_info):
    for node in old(name).values():
        if not node["class_type"].startswith("MagicPortrait"):
            continue
        spec = object_info[node["class_type"]]["input"]
        declared = {**spec.get("required", {}), **spec.get("optional", {})}
        assert set(spec.get("required", {})) <= {label.partition(".")[0] for label in node["inputs"]}
        for label, value in node["inputs"].items():
            kind, *rest = declared[label.partition(".")[0]]
            limits = rest[0] if rest else {}
            if isinstance(value, list) or label in FILES:
                continue
            options = kind if isinstance(kind, list) else limits.get("options")
            assert options is None or value in options, (node["class_type"], label, value)
            if "min" in limits:
                assert limits["min"] <= value <= limits["max"], (node["class_type"], label, value)


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_an_older_api_file_runs(name, client, inputs):
    run = client.run(old(name))
    assert run.status == "success", run.error
    assert run.files()
