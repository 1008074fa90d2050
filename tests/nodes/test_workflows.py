"""The example workflows: valid for the real server, and executed by it over HTTP and websocket."""

import io
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from demo_pictures import read_video, template_clip, write_driving, write_portrait
from example_workflows import FOLDER, add_sound, api, node_named, saved_file
from make_workflows import AUTOGROW, Writer
from PIL import Image
from workflow_graphs import DRIVING, GRAPHS, PORTRAIT

NAMES = sorted(GRAPHS)
FRAMES = 8  # of the driving clip; it has 15 a second


@pytest.fixture(scope="module")
def inputs(server) -> Path:
    """The input folder with a portrait, a driving clip with sound, and pictures that do not fit."""
    folder = server.input_folder
    write_portrait(None, folder / PORTRAIT)
    write_driving(folder / "silent.mp4", max_frames=FRAMES)
    write_driving(folder / "long.mp4")
    add_sound(folder / "silent.mp4", folder / DRIVING, FRAMES / 15)
    Image.new("RGB", (64, 64), (90, 120, 90)).save(folder / "no_face.png")
    Image.open(folder / PORTRAIT).resize((16, 16)).save(folder / "tiny.png")
    Image.open(folder / PORTRAIT).convert("LA").save(folder / "grey_alpha.png")
    return folder


@pytest.fixture(scope="module")
def saved_track(server, client, inputs) -> Path:
    """The file that the save_track workflow writes; reuse_saved_track loads it by its name."""
    run = client.run(api("save_track"))
    assert run.status == "success", run.error
    client.get_json("/object_info/MagicPortraitLoadTrack")  # what R does in the browser
    return next((server.output_folder / "magicportrait").glob("track_*.safetensors"))


def test_driving_clip_ships_with_comfyui():
    assert template_clip().stat().st_size > 100_000


@pytest.mark.parametrize("name", NAMES)
def test_files_are_what_the_script_writes(name, object_info, inputs):
    """python scripts/host.py run scripts/make_workflows.py brings them up to date."""
    writer = Writer(object_info)
    assert api(name) == writer.api(GRAPHS[name])
    written = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(writer.ui(name, GRAPHS[name])))


@pytest.mark.parametrize("name", NAMES)
def test_links_join_outputs_to_inputs_of_the_same_type(name, object_info):
    workflow = api(name)
    for node in workflow.values():
        spec = object_info[node["class_type"]]["input"]
        declared = {**spec.get("required", {}), **spec.get("optional", {})}
        assert set(spec.get("required", {})) <= {label.partition(".")[0] for label in node["inputs"]}
        for label, value in node["inputs"].items():
            if isinstance(value, list):
                source = object_info[workflow[value[0]]["class_type"]]["output"][value[1]]
                kind = declared[label.partition(".")[0]]
                if kind[0] == AUTOGROW:
                    kind = next(iter(kind[1]["template"]["input"]["required"].values()))
                assert kind[0] == "*" or source in kind[0].split(",")


@pytest.mark.parametrize("name", NAMES)
def test_templates_are_served_with_a_picture(name, server, client):
    listed = client.get_json("/workflow_templates")
    assert name in listed[server.pack_name]
    folder = f"/api/workflow_templates/{server.pack_name}/{name}"
    assert json.loads(client.get(folder + ".json"))["nodes"]
    picture = Image.open(io.BytesIO(client.get(folder + ".jpg")))
    assert picture.format == "JPEG" and min(picture.size) >= 200


def test_a_portrait_moves(server, client, inputs):
    workflow = api("portrait_warp_preview")
    run = client.run(workflow)
    assert run.status == "success", run.error

    result = saved_file(server, workflow, run, "Save moving portrait")
    frames = list(read_video(result))
    assert len(frames) == FRAMES and frames[0].shape == (512, 512, 3)
    first, last = frames[0].astype(int), frames[-1].astype(int)
    assert np.abs(first[100:250, 150:350] - last[100:250, 150:350]).mean() > 2, "the face does not move"
    portrait = np.asarray(Image.open(inputs / PORTRAIT)).astype(int)
    assert np.abs(last[:80, :80] - portrait[:80, :80]).mean() < 12, "a far corner changed"

    with av.open(str(result)) as video:
        assert video.streams.video[0].average_rate == 15
        sound = sum(frame.samples for frame in video.decode(audio=0)) / video.streams.audio[0].rate
        assert abs(sound - FRAMES / 15) < 1 / 15
    for title in ("Save tracked head", "Save depth", "Save normal", "Save render"):
        assert len(list(read_video(saved_file(server, workflow, run, title)))) == FRAMES, title

    assert run.of_kind("progress", node_named(workflow, "Track the driver"))
    previews = run.of_kind("preview")
    assert previews and Image.open(io.BytesIO(previews[0].data["bytes"])).format == "JPEG"
    report = run.outputs[node_named(workflow, "Track the driver")]["text"][0]
    assert f"{FRAMES} frames" in report
    assert "self-test" not in server.log_text(), "a fast path refuses to work inside ComfyUI"


def test_maps_show_a_head(server, client, inputs):
    workflow = api("guidance_maps")
    run = client.run(workflow)
    assert run.status == "success", run.error
    depth = next(read_video(saved_file(server, workflow, run, "Save depth"))).astype(int)
    assert depth[:40, :40].max() <= 8, "outside the head the map is black"
    assert depth[90:200, 200:300].mean() > 60, "the face is near"


def test_track_is_saved_and_used_again(server, client, saved_track):
    assert 1_000 < saved_track.stat().st_size < 200_000
    workflow = api("reuse_saved_track")
    run = client.run(workflow)
    assert run.status == "success", run.error
    assert len(list(read_video(saved_file(server, workflow, run, "Save moving portrait")))) == FRAMES


def test_same_workflow_again_executes_nothing(client, saved_track):
    workflow = api("reuse_saved_track")
    assert client.run(workflow).status == "success"
    assert client.run(workflow).executed_nodes() == []


def test_a_strength_does_not_track_again(client, inputs):
    tracking = api("guidance_maps")
    assert client.run(tracking).status == "success"
    tracking[node_named(tracking, "Portrait's head, driver's motion")]["inputs"]["brows"] = 0.5
    run = client.run(tracking)
    assert run.status == "success"
    assert node_named(tracking, "Track the driver") not in run.executed_nodes()
    assert node_named(tracking, "Guidance maps") in run.executed_nodes()


@pytest.mark.parametrize(
    ("title", "fresh"), [("Track the driver", 0.31), ("Guidance maps", 0.32), ("Move the portrait", 0.33)]
)
def test_cancel_takes_less_than_a_second(title, fresh, client, inputs):
    workflow = api("portrait_warp_preview")
    workflow[node_named(workflow, "Driving video")]["inputs"]["file"] = "long.mp4"
    # A value that nothing else uses: an earlier run may have finished this node before it was cancelled.
    workflow[node_named(workflow, "Track the driver")]["inputs"]["smooth_head"] = fresh
    node = node_named(workflow, title)
    run = client.run(workflow, cancel_when=lambda event: event.kind == "progress" and event.node == node)
    assert run.status == "interrupted", run.error
    assert run.cancel_seconds < 1.0
    assert client.get_json("/queue")["queue_running"] == []


@pytest.mark.parametrize(
    ("picture", "words"),
    [("no_face.png", ["no face", "portrait"]), ("tiny.png", ["16"])],
)
def test_bad_portraits_end_in_one_sentence(picture, words, client, inputs):
    workflow = api("guidance_maps")
    workflow[node_named(workflow, "Portrait")]["inputs"]["image"] = picture
    run = client.run(workflow)
    assert run.status == "error" and run.error_node == node_named(
        workflow, "Portrait's head, driver's motion"
    )
    assert all(word in run.error.lower() for word in words), run.error
    assert "Traceback" not in run.error and len(run.error) < 400


@pytest.mark.parametrize("name", ["guidance_maps", "portrait_warp_preview", "reenactment_small"])
def test_the_portrait_is_looked_at_before_the_driving_video(name, client, inputs):
    workflow = api(name)
    workflow[node_named(workflow, "Portrait")]["inputs"]["image"] = "no_face.png"
    video = node_named(workflow, "Driving video")
    workflow[video]["inputs"]["file"] = f"for_{name}.mp4"  # which no other test has read
    shutil.copy(inputs / "silent.mp4", inputs / f"for_{name}.mp4")
    run = client.run(workflow)
    assert run.error_node == node_named(workflow, "Portrait's head, driver's motion")
    assert video not in run.executed_nodes()


def test_grey_portrait_with_transparency_works(client, inputs):
    workflow = api("guidance_maps")
    workflow[node_named(workflow, "Portrait")]["inputs"]["image"] = "grey_alpha.png"
    assert client.run(workflow).status == "success"


def test_unknown_head_is_refused_before_running(client, inputs):
    workflow = api("guidance_maps")
    workflow[node_named(workflow, "Head and tracker")]["inputs"]["head"] = "heads/someone.pkl"
    run = client.run(workflow)
    assert run.status == "rejected" and "someone.pkl" in run.error
