"""Portrait and driving video to guidance maps with DECA and SMIRK, through the real server.

The licensed files are stand-ins with true names, keys and shapes (tests/helpers/released_files.py).
"""

import numpy as np
import pytest
from PIL import Image
from released_graphs import Graph, report, write_inputs

from magicportrait_core.alignment import StructuredFaceAlignment, align_track
from magicportrait_core.guidance import render_guidance
from magicportrait_core.head_appearance import released_appearance
from magicportrait_core.media.image import load_image
from magicportrait_core.media.video import open_video
from magicportrait_core.tracking.released_files import load_released_tracker
from magicportrait_core.tracking.released_tracker import track_portrait_released, track_released


@pytest.fixture(scope="module")
def graph(server, object_info, released_models):
    write_inputs(server.input_folder)
    return Graph(object_info)


@pytest.fixture(scope="module")
def run(client, graph):
    """The whole graph with every default but the tracker, its maps as pictures for the network."""
    return client.run(graph.maps(style="as the network sees them"))


def pictures(server, run, node):
    files = [server.output_folder / f["subfolder"] / f["filename"] for f in run.outputs[node]["images"]]
    return np.stack([np.asarray(Image.open(file)) for file in files])


def test_reports_say_what_was_used(run):
    assert "there, " in report(run, "head") and "missing" not in report(run, "head")
    assert "4 frames of 256x256" in report(run, "track") and "found in 4 of 4" in report(run, "track")
    assert "fit error: not measured" in report(run, "track")
    assert "mode absolute, as the released system with DECA and SMIRK" in report(run, "align")


def test_maps_are_cores_with_the_released_settings(server, run, released_models):
    """Defaults of the nodes are the released system: absolute motion, whole head, raw codes, FLAME's skin."""
    tracker = load_released_tracker(**released_models.arguments())
    portrait = track_portrait_released(load_image(server.input_folder / "released_face.png"), tracker).track
    with open_video(server.input_folder / "released_drive.mp4") as reader:
        driving = track_released(reader, tracker, float(reader.fps)).track
    aligned = align_track(portrait, driving, StructuredFaceAlignment(mode="absolute", carry="whole"))
    maps = render_guidance(tracker.head, aligned, released_appearance(tracker.texture, portrait))
    for node, levels in (("depth", maps.depth), ("normal", maps.normal), ("render", maps.render)):
        expected = (levels * 255).round().byte().expand(-1, 3, -1, -1).movedim(1, -1).numpy()
        found = pictures(server, run, node)
        assert found.shape == expected.shape == (4, 256, 256, 3) and expected.max() > 100
        # The encoders' rounding depends on the number of threads; it moves edges by a fraction of a pixel.
        assert (np.abs(found.astype(int) - expected) > 1).mean() < 5e-3, node


def test_skin_can_be_chosen(client, server, graph, run):
    """auto is FLAME's texture here; the others differ from it and from each other."""
    auto = pictures(server, run, "render")
    others = {}
    for colours in ("FLAME texture", "portrait's own", "grey"):
        workflow = graph.maps(style="as the network sees them", colours=colours)
        others[colours] = pictures(server, client.run(workflow), "render")
    assert (others["FLAME texture"] == auto).all()
    assert (others["grey"] != auto).any() and (others["portrait's own"] != others["grey"]).any()
    middle = others["grey"][0][others["grey"][0].any(-1)].astype(int)
    assert np.ptp(middle, axis=-1).max() <= 1  # no colour at all


def test_maps_can_pass_through_jpeg(client, server, graph, run):
    workflow = graph.maps(style="as the network sees them", jpeg=True)
    noisy, exact = pictures(server, client.run(workflow), "normal"), pictures(server, run, "normal")
    difference = np.abs(noisy.astype(int) - exact)
    assert 0.2 < difference.mean() < 8 and difference.max() > 10


def test_texture_is_not_needed(client, graph):
    run = client.run(graph.maps(texture="none", colours="FLAME texture"))
    assert run.status == "error" and run.error_node == "maps"
    assert "the tracker has no texture: choose FLAME_texture.npz in Load FLAME Tracker" in run.error
    assert client.run(graph.maps(texture="none")).status == "success"


@pytest.mark.parametrize(
    "change",
    [
        {"eyelids": True},
        {"gaze": True},
        {"follow_place": 1.0},
        {"carry": "neck"},
        {"max_change": 0.0},
        {"smooth_head": 1.0},
        {"mode": "relative"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_goes_beyond_can_be_switched_on(change, client, server, graph, run):
    exact = pictures(server, run, "depth")
    changed = client.run(graph.maps(style="as the network sees them", **change))
    assert (pictures(server, changed, "depth") != exact).any()


def test_video_and_pictures_give_the_same(client, graph, run):
    workflow = graph.maps()
    workflow["parts"] = {"class_type": "GetVideoComponents", "inputs": {"video": ["clip", 0]}}
    workflow["track"]["inputs"] |= {"video": ["parts", 0], "fps": 10.0}
    again = report(client.run(workflow), "track")
    assert again == report(run, "track")


def test_landmarks_of_the_host_are_used(client, graph):
    """What our own tracker saw, handed in as FACE_LANDMARKS: same faces, same codes."""
    workflow = graph.maps()
    workflow["again"] = {
        "class_type": "MagicPortraitTrackVideo",
        "inputs": {**workflow["track"]["inputs"], "face_landmarks": ["track", 4]},
    }
    workflow["again_report"] = {"class_type": "PreviewAny", "inputs": {"source": ["again", 5]}}
    run = client.run(workflow)
    assert report(run, "again") == report(run, "track")
    workflow["again"]["inputs"] |= {"start_frame": 1, "frame_limit": 2}
    assert "2 frames of 256x256" in report(client.run(workflow), "again")


def test_frames_without_a_face(client, graph):
    text = report(client.run(graph.maps(driving="leaves")), "track")
    assert "found in 3 of 5 frames (0-1, 4), missing in 2-3" in text
    run = client.run(graph.maps(driving="leaves", missing_face="raise"))
    assert run.error.startswith("Driving video: no face was found in 2 of 5 frames (2-3)")


def test_portrait_without_a_face(client, graph):
    run = client.run(graph.maps(portrait="empty"))
    assert run.error_node == "align" and run.error.startswith("Portrait: no face was found in the picture")


def test_a_saved_track_gets_its_skin_from_the_tracker(client, graph):
    workflow = graph.maps()
    workflow["save"] = {
        "class_type": "MagicPortraitSaveTrack",
        "inputs": {"track": ["align", 0], "filename_prefix": "magicportrait/released"},
    }
    assert client.run(workflow).status == "success"
    name = "magicportrait/released_00001_.safetensors [output]"
    loaded = {
        "head": workflow["head"],
        "load": {
            "class_type": "MagicPortraitLoadTrack",
            "inputs": {"file": name, "head_tracker": ["head", 0]},
        },
        "maps": workflow["maps"],
        "render": workflow["render"],
    }
    loaded["maps"]["inputs"] = {
        **graph.defaults("RenderGuidance"),
        "aligned": ["load", 0],
        "colours": "FLAME texture",
    }
    assert client.run(loaded).status == "success"


def test_progress_and_previews_come_while_faces_are_read(client, graph):
    workflow = graph.maps(driving="long")
    run = client.run(workflow)
    steps = [e.data["value"] / e.data["max"] for e in run.of_kind("progress", "track")]
    assert len(steps) >= 5 and steps == sorted(steps) and run.of_kind("preview")


def test_cancelling_takes_less_than_a_second(client, graph):
    workflow = graph.maps(driving="long", smooth_gaze=0.5)
    run = client.run(workflow, cancel_when=lambda e: e.kind == "progress" and e.node == "track")
    assert run.status == "interrupted" and run.cancel_seconds < 1.0
