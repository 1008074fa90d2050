"""Graphs of before still run; crops; what goes beyond the released system, in the real server."""

import json

import numpy as np
import pytest
from demo_pictures import read_video
from example_workflows import api, inputs_of, saved_file
from PIL import Image
from released_graphs import FLAME, RELEASED, SIDE, Graph, face, report, write_inputs

# As clients sent them before there was a choice of trackers.
EARLIER = {
    "head": {
        "class_type": "MagicPortraitLoadTracker",
        "inputs": {"head": "open_head (built in)", "device": "default"},
    },
    "clip": {"class_type": "LoadVideo", "inputs": {"file": "released_drive.mp4"}},
    "photo": {"class_type": "LoadImage", "inputs": {"image": "released_face.png"}},
    "track": {
        "class_type": "MagicPortraitTrackVideo",
        "inputs": {
            "head_tracker": ["head", 0],
            "video": ["clip", 0],
            "fps": 0.0,
            "start_frame": 0,
            "frame_limit": 0,
            "face_order": "largest first",
            "face_index": 0,
            "point_x": 0.5,
            "point_y": 0.5,
            "missing_face": "interpolate",
            "smooth_head": 0.5,
            "smooth_expression": 0.5,
            "smooth_gaze": 0.25,
            "overlay_size": 384,
            "overlay_frames": 0,
        },
    },
    "align": {
        "class_type": "MagicPortraitAlignIdentity",
        "inputs": {
            "head_tracker": ["head", 0],
            "portrait": ["photo", 0],
            "driving": ["track", 0],
            "mode": "auto",
            "strength": 1.0,
            "head": 1.0,
            "jaw": 1.0,
            "mouth": 1.0,
            "brows": 1.0,
            "lids": 1.0,
            "gaze": 1.0,
            "neutral_frame": -1,
            "carry": "neck",
            "face_order": "largest first",
            "face_index": 0,
            "point_x": 0.5,
            "point_y": 0.5,
        },
    },
    "maps": {
        "class_type": "MagicPortraitRenderGuidance",
        "inputs": {
            "aligned": ["align", 0],
            "size": 0,
            "style": "for people",
            "image_frames": 0,
            "portrait": ["photo", 0],
            "portrait_track": ["align", 1],
        },
    },
    "render": {
        "class_type": "SaveImage",
        "inputs": {"images": ["maps", 3], "filename_prefix": "released/earlier"},
    },
}


@pytest.fixture(scope="module")
def graph(server, object_info):
    write_inputs(server.input_folder)
    return Graph(object_info)


def pictures(server, run, node):
    files = [server.output_folder / f["subfolder"] / f["filename"] for f in run.outputs[node]["images"]]
    return np.stack([np.asarray(Image.open(file)) for file in files])


def test_graphs_of_before_run_as_before(client, server, graph):
    """New defaults (-1, auto) mean for landmarks what the old ones said."""
    earlier = client.run(EARLIER)
    assert earlier.status == "success", earlier.error
    now = client.run(graph.maps(tracker="landmarks (built in)", head="open_head (built in)"))
    assert report(now, "head").startswith("landmarks (built in), head open_head (built in)")
    assert (pictures(server, now, "render") == pictures(server, earlier, "render")).all()


def test_saved_graphs_keep_their_widgets(object_info):
    """Browsers save widgets by position: those of before come first and in their order."""
    for node in EARLIER.values():
        if node["class_type"].startswith("MagicPortrait"):
            now = list(object_info[node["class_type"]]["input"]["required"])
            before = [name for name in node["inputs"] if name in now]
            assert now == before


def crop(graph, source, **widgets):
    workflow = {
        "head": graph.loader(tracker="landmarks (built in)", head="open_head (built in)"),
        "clip": {"class_type": "LoadVideo", "inputs": {"file": "released_drive.mp4"}},
        "photo": {"class_type": "LoadImage", "inputs": {"image": "released_whole.png"}},
        "empty": {"class_type": "LoadImage", "inputs": {"image": "released_empty.png"}},
        "crop": graph.node("CropFace", {"head_tracker": ["head", 0], "image": [source, 0]}, widgets),
        "save": {
            "class_type": "SaveImage",
            "inputs": {"images": ["crop", 0], "filename_prefix": "released/crop"},
        },
    }
    for name, place in (("box", 1), ("fps", 2)):
        workflow[f"{name}_report"] = {"class_type": "PreviewAny", "inputs": {"source": ["crop", place]}}
    return workflow


def test_crop_is_the_released_square(client, server, graph):
    """In the 512-pixel photo the face spans x 172 to 270, about; the square is 2.18 times as wide."""
    run = client.run(crop(graph, "photo"))
    box = json.loads(report(run, "box"))
    assert box["width"] == box["height"] == pytest.approx(2.18 * 90, rel=0.15)
    assert box["x"] + box["width"] / 2 == pytest.approx(224, abs=12)
    (picture,) = pictures(server, run, "save")
    assert picture.shape == (512, 512, 3)
    whole = Image.open(server.input_folder / "released_whole.png").convert("RGB")
    corners = (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
    expected = np.asarray(
        whole.crop([round(c) for c in corners]).resize((512, 512), Image.Resampling.BILINEAR)
    )
    inside = picture.any(-1) & expected.any(-1)
    assert np.abs(picture.astype(int) - expected)[inside].mean() < 6


def test_crop_of_a_video_stays_where_the_first_frame_is(client, server, graph):
    run = client.run(crop(graph, "clip", size=128))
    frames = pictures(server, run, "save").astype(int)
    assert frames.shape == (4, 128, 128, 3) and report(run, "fps") == "10.0"
    assert np.abs(frames[0] - frames[3]).mean() > 5  # the head moves inside the square


def test_crop_beyond_the_picture_is_black_or_its_edge(client, server, graph):
    black = pictures(server, client.run(crop(graph, "clip", scale=3.0, size=128)), "save")[0]
    edge = pictures(server, client.run(crop(graph, "clip", scale=3.0, size=128, border="edge")), "save")[0]
    assert not black[:, :4].any() and edge[:, :4].any(-1).all()
    assert (np.abs(black[60:68, 60:68].astype(int) - edge[60:68, 60:68]) <= 1).all()


def test_crop_without_a_face(client, graph):
    run = client.run(crop(graph, "empty"))
    assert run.error_node == "crop"
    assert run.error.startswith("First frame: no face was found in the picture")


def test_warp_of_decas_track(client, server, graph, released_models):
    """The landmarks that only the warp needs are found when it runs, once for a head file (half a minute)."""
    workflow = graph.maps()
    for name in ("maps", "depth", "normal", "render"):
        del workflow[name]
    links = {"portrait": ["photo", 0], "portrait_track": ["align", 1], "aligned": ["align", 0]}
    workflow["warp"] = graph.node("FlowWarpPreview", links, {})
    workflow["save"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["warp", 0], "filename_prefix": "released/warp"},
    }
    run = client.run(workflow)
    assert run.status == "success", run.error
    assert pictures(server, run, "save").shape == (4, SIDE, SIDE, 3)
    kept = list((server.base / "user" / "magicportrait" / "heads").glob("generic_model-*.safetensors"))
    assert len(kept) == 1


def test_portraits_landmarks_of_the_host_are_used(client, graph, released_models):
    """What our tracker saw in the portrait, handed in as FACE_LANDMARKS."""
    workflow = graph.maps()
    workflow["portrait_as_clip"] = graph.node(
        "TrackVideo", {"head_tracker": ["head", 0], "video": ["photo", 0]}, {}
    )
    workflow["align"]["inputs"]["face_landmarks"] = ["portrait_as_clip", 4]
    own = report(client.run(graph.maps()), "align")
    assert report(client.run(workflow), "align") == own
    workflow["align"]["inputs"]["face_landmarks"] = ["track", 4]
    run = client.run(workflow)
    assert run.error_node == "align" and "face_landmarks covers 4 frames, the pictures are 1" in run.error


def test_faces_can_be_read_at_full_resolution(client, server, graph, released_models):
    face().resize((1024, 1024)).save(server.input_folder / "released_large.png")
    maps = []
    for full in (False, True):
        run = client.run(graph.maps(portrait="large", full_resolution=full))
        assert "picture of 1024x1024" in report(run, "align")
        maps.append(pictures(server, run, "depth"))
    assert (maps[0] != maps[1]).any()


def test_example_workflow_runs_with_the_licensed_files(client, server, graph, toy_models, released_models):
    """Portrait and driving video to a video, on a toy model; only the loader's choices differ."""
    workflow = api("reenactment")
    inputs_of(workflow, "Portrait")["image"] = "released_face.png"
    inputs_of(workflow, "Driving video")["file"] = "released_drive.mp4"
    inputs_of(workflow, "Head and tracker").update(tracker=RELEASED, head=FLAME)
    inputs_of(workflow, "MagicPortrait")["model"] = "toy"
    inputs_of(workflow, "VAE")["vae_name"] = "taesd"
    inputs_of(workflow, "Motion features")["size"] = 64
    inputs_of(workflow, "Sampler").update(steps=2, save_every=0)
    run = client.run(workflow)
    assert run.status == "success", run.error
    video = saved_file(server, workflow, run, "Save reenactment")
    frames = list(read_video(video))
    assert len(frames) == 4 and frames[0].shape[0] == frames[0].shape[1]
