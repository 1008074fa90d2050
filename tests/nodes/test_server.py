"""The pack inside a real ComfyUI: it loads, quickly, and every node explains itself."""

import re

from comfy_server import ComfyServer, ServerError, local_interpreter

NODES = {
    "MagicPortraitLoadTracker",
    "MagicPortraitCropFace",
    "MagicPortraitTrackVideo",
    "MagicPortraitAlignIdentity",
    "MagicPortraitRenderGuidance",
    "MagicPortraitFlowWarpPreview",
    "MagicPortraitSaveTrack",
    "MagicPortraitLoadTrack",
    "MagicPortraitLoadModel",
    "MagicPortraitEncodeGuidance",
    "MagicPortraitSampler",
    "MagicPortraitTemporalAggregate",
    "MagicPortraitDecode",
    "MagicPortraitSaveSegments",
    "MagicPortraitLoadSegments",
}
IMPORT_LINE = re.compile(r"([\d.]+) seconds( \(IMPORT FAILED\))?: .*custom_nodes.(.+?)\s*$", re.MULTILINE)


def our_nodes(object_info: dict) -> dict:
    return {name: node for name, node in object_info.items() if name.startswith("MagicPortrait")}


def inputs_of(node: dict) -> dict:
    """Name -> options of every visible input."""
    groups = [node["input"].get(kind, {}) for kind in ("required", "optional")]
    return {name: spec[1] if len(spec) > 1 else {} for group in groups for name, spec in group.items()}


def test_pack_loads_without_complaint(server, client):
    client.get_json("/system_stats")
    log = server.log_text().partition("got prompt")[0]  # what other tests provoke comes later
    (seconds, failed, folder) = IMPORT_LINE.findall(log)[0]
    assert folder == server.pack_name and not failed, log[-3000:]
    assert float(seconds) < 1.0
    assert "Error while calling comfy_entrypoint" not in log
    assert "Traceback" not in log


def test_pack_loads_under_a_name_with_space_hyphen_and_dot(comfyui, tmp_path):
    """ComfyUI names the pack's modules after its path; help pages need a name without space, dot and @."""
    server = ComfyServer(
        local_interpreter(),
        comfyui,
        tmp_path,
        tmp_path / "log",
        pack_name="My Portrait-pack v1.0 (copy)",
        arguments=("--cpu", "--quick-test-for-ci"),
    )
    try:
        server.start()
    except ServerError:
        pass  # it ends by itself after loading
    finally:
        server.stop()
    (_, failed, folder) = IMPORT_LINE.findall(server.log_text())[0]
    assert folder == server.pack_name and not failed, server.log_text()[-3000:]


def test_every_node_is_offered(object_info):
    assert set(our_nodes(object_info)) == NODES


def test_every_node_is_described(object_info):
    for name, node in our_nodes(object_info).items():
        assert len(node["description"]) >= 40, name
        assert node["search_aliases"], name
        assert node["category"].startswith("MagicPortrait"), name
        assert node["display_name"][0].isupper() and " " in node["display_name"], name


def test_every_input_and_output_has_a_tooltip(object_info):
    for name, node in our_nodes(object_info).items():
        for label, options in inputs_of(node).items():
            assert len(options.get("tooltip") or "") >= 15, f"{name}.{label}"
        for label, tooltip in zip(node["output_name"], node["output_tooltips"], strict=True):
            assert tooltip, f"{name} output {label}"


def test_numbers_have_bounds(object_info):
    for name, node in our_nodes(object_info).items():
        for kind in ("required", "optional"):
            for label, spec in node["input"].get(kind, {}).items():
                if spec[0] in ("INT", "FLOAT"):
                    assert {"default", "min", "max"} <= set(spec[1]), f"{name}.{label}"


def test_tracks_bring_the_rate_and_sound_that_create_video_wants(object_info):
    """Get Video Components would hold every frame of the clip in memory."""
    tracking, loading = object_info["MagicPortraitTrackVideo"], object_info["MagicPortraitLoadTrack"]
    types = dict(zip(tracking["output_name"], tracking["output"], strict=True))
    assert types["fps"] == "FLOAT" and types["audio"] == "AUDIO"
    assert dict(zip(loading["output_name"], loading["output"], strict=True))["fps"] == "FLOAT"


def test_every_node_has_a_help_page(object_info, server, client):
    for name, node in our_nodes(object_info).items():
        page = client.get(f"/extensions/{server.pack_name}/docs/{name}.md").decode("utf-8")
        assert page.startswith("#"), name
        for label in inputs_of(node):
            assert label in page, f"help page of {name} does not mention its input {label}"


def test_translations_are_served(client):
    translations = client.get_json("/i18n")
    assert NODES <= set(translations["en"]["nodeDefs"])
