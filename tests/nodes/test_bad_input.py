"""Odd and broken inputs, through the real server: each works, or ends in one sentence about what to do."""

import struct
from fractions import Fraction
from importlib.resources import files

import av
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from skimage import data

from magicportrait_core.rendering.camera import Camera
from magicportrait_core.tracking.track import FaceTrack
from magicportrait_core.tracking.track_file import save_track

SIDE = 256
FACE_BOX = (95, 4, 359, 268)  # head and shoulders in the 512-pixel photo
GREY = (90, 100, 110)
PROFILE = (
    "templates/Image_capybara_v0_1_text_to_image-1.webp"  # of ComfyUI's templates: a face seen from the side
)
RAW_PYTHON = ("Traceback", "NoneType", "object has no attribute", "Errno", "IndexError", "KeyError")


def face() -> Image.Image:
    return Image.fromarray(data.astronaut()).crop(FACE_BOX).resize((SIDE, SIDE))


def moved(right: int) -> Image.Image:
    picture = Image.new("RGB", (SIDE, SIDE), GREY)
    picture.paste(face(), (right, 0))
    return picture


def two_people() -> Image.Image:
    """The larger face on the left."""
    picture = Image.new("RGB", (2 * SIDE, SIDE), GREY)
    picture.paste(face(), (0, 0))
    picture.paste(face().resize((200, 200)).transpose(Image.Transpose.FLIP_LEFT_RIGHT), (290, 30))
    return picture


def cartoon() -> Image.Image:
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((40, 30, 216, 236), fill=(255, 220, 120), outline="black")
    for left in (85, 146):
        draw.ellipse((left, 90, left + 25, 120), fill="black")
    draw.arc((90, 130, 166, 195), 0, 180, fill="black", width=5)
    return picture


def write_clip(path, pictures, milliseconds=None) -> None:
    """10 frames a second, or frames at the given times."""
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("h264", rate=10)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuv420p"
        if milliseconds:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_image(picture)
            if milliseconds:
                frame.pts, frame.time_base = milliseconds[number], Fraction(1, 1000)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode())


def write_lying_clip(path, pictures) -> None:
    """Frames that lie on their side, and a note in the file (track header matrix) to turn them upright."""
    write_clip(path, [picture.transpose(Image.Transpose.ROTATE_90) for picture in pictures])
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    turn = (0, 0x10000, 0, -0x10000, 0, 0, SIDE * 0x10000, 0, 0x40000000)  # a quarter turn to the right
    content[matrix : matrix + 36] = struct.pack(">9i", *turn)
    path.write_bytes(content)


def flame_track(path) -> None:
    frames = 2
    camera = Camera(torch.eye(3, 4).expand(frames, 3, 4), torch.ones(frames, 3), (SIDE, SIDE))
    track = FaceTrack(
        head="flame2023",
        shape=torch.zeros(1, 300),
        expression=torch.zeros(frames, 100),
        pose=torch.zeros(frames, 5, 3),
        eyelids=torch.zeros(frames, 2),
        camera=camera,
        fps=25.0,
        confidence=torch.ones(frames),
        found=torch.ones(frames, dtype=torch.bool),
        error=torch.zeros(frames),
    )
    save_track(track, path)


@pytest.fixture(scope="module")
def inputs(server):
    folder = server.input_folder
    pictures = {
        "face": face(),
        "empty": Image.new("RGB", (SIDE, SIDE), GREY),
        "two": two_people(),
        "quarter": face().crop((SIDE // 2, 0, SIDE, SIDE)),
        "cartoon": cartoon(),
        "tiny": face().resize((16, 16)),
        "grey": face().convert("L"),
        "transparent": face().convert("RGBA"),
        "large": face().resize((3840, 2160)),
        "cat": Image.fromarray(data.chelsea()),
        "profile": Image.open(str(files("comfyui_workflow_templates_media_image") / PROFILE)).convert("RGB"),
    }
    for name, picture in pictures.items():
        picture.save(folder / f"bad_{name}.png")
    black = [Image.new("RGB", (SIDE, SIDE))]
    other = two_people().crop((280, 0, 512, 232)).resize((SIDE, SIDE))
    write_clip(folder / "bad_short.mp4", [moved(0), moved(4), moved(8)])
    write_clip(folder / "bad_one.mp4", [face()])
    write_clip(folder / "bad_black.mp4", black * 4)
    write_clip(folder / "bad_cut.mp4", [moved(0)] * 3 + [other] * 3)
    write_clip(folder / "bad_leaves.mp4", [face(), moved(2), *black * 3, moved(4), moved(6)])
    write_clip(folder / "bad_uneven.mp4", [moved(i) for i in range(6)], [0, 40, 80, 480, 520, 560])
    write_clip(folder / "bad_two.mp4", [two_people()] * 2)
    write_lying_clip(folder / "bad_lying.mp4", [moved(0), moved(4)])
    (folder / "bad_noise.mp4").write_bytes(b"not a video" * 50)
    whole = (folder / "bad_short.mp4").read_bytes()
    (folder / "bad_half.mp4").write_bytes(whole[: len(whole) // 2])
    flame_track(folder / "bad_flame.safetensors")
    save_file({"weight": torch.zeros(3)}, folder / "bad_other.safetensors")
    (folder / "bad_text.safetensors").write_text("hello")
    return folder


def graph(portrait: str = "face", driving: str = "short") -> dict:
    """Track and align, with reports as results. Nodes that do not change come from the server's cache."""
    return {
        "head": {"class_type": "MagicPortraitLoadTracker", "inputs": defaults("LoadTracker")},
        "clip": {"class_type": "LoadVideo", "inputs": {"file": f"bad_{driving}.mp4"}},
        "track": {
            "class_type": "MagicPortraitTrackVideo",
            "inputs": {**defaults("TrackVideo"), "head_tracker": ["head", 0], "video": ["clip", 0]},
        },
        "photo": {"class_type": "LoadImage", "inputs": {"image": f"bad_{portrait}.png"}},
        "align": {
            "class_type": "MagicPortraitAlignIdentity",
            "inputs": {
                **defaults("AlignIdentity"),
                "head_tracker": ["head", 0],
                "portrait": ["photo", 0],
                "driving": ["track", 0],
            },
        },
        "track_report": {"class_type": "PreviewAny", "inputs": {"source": ["track", 5]}},
        "align_report": {"class_type": "PreviewAny", "inputs": {"source": ["align", 3]}},
    }


DEFAULTS = {}


def defaults(name: str) -> dict:
    return DEFAULTS[f"MagicPortrait{name}"]


@pytest.fixture(scope="module", autouse=True)
def _defaults(object_info):
    for name, node in object_info.items():
        if name.startswith("MagicPortrait"):
            inputs = {label: spec[1] for label, spec in node["input"]["required"].items() if len(spec) > 1}
            DEFAULTS[name] = {k: v["default"] for k, v in inputs.items() if "default" in v}


def one_sentence(run, node: str) -> str:
    """The error of a run that ended at `node`."""
    assert run.status == "error" and run.error_node == node, (run.status, run.error)
    assert 40 < len(run.error) < 400 and "\n" not in run.error, run.error
    assert not any(word in run.error for word in RAW_PYTHON), run.error
    return run.error


def report(run, node: str) -> str:
    assert run.status == "success", run.error
    return run.outputs[f"{node}_report"]["text"][0]


@pytest.mark.parametrize("portrait", ["empty", "quarter", "cartoon", "tiny", "cat"])
def test_portrait_without_a_face(portrait, client, inputs):
    error = one_sentence(client.run(graph(portrait)), "align")
    width, height = Image.open(inputs / f"bad_{portrait}.png").size
    assert error.startswith(
        f"Portrait: no face was found in the picture ({width}x{height} pixels); use one in which"
    )


@pytest.mark.parametrize("portrait", ["face", "grey", "transparent", "large"])
def test_portrait_that_works(portrait, client, inputs):
    assert "face 0 found in 1 of 1 frames" in report(client.run(graph(portrait)), "align")


def test_portrait_from_the_side_works_with_a_warning(client, inputs):
    text = report(client.run(graph("profile")), "align")
    assert "face 0 found in 1 of 1 frames" in text and "! the face is in profile" in text


def test_portrait_of_two_people_takes_the_larger_and_says_so(client, inputs):
    text = report(client.run(graph("two")), "align")
    assert "faces seen: 2" in text and "! several faces" in text and "face 0 was followed" in text


def test_third_person_of_two(client, inputs):
    workflow = graph("two")
    workflow["align"]["inputs"]["face_index"] = 2
    error = one_sentence(client.run(workflow), "align")
    assert error == (
        "Portrait: asked for face 2 by size (counted from 0), the picture shows at most 2 faces: choose 0 "
        "to 1."
    )


def masked(value: float) -> dict:
    """A mask of the whole picture."""
    return {"class_type": "SolidMask", "inputs": {"value": value, "width": 2 * SIDE, "height": SIDE}}


def test_black_mask(client, inputs):
    workflow = graph("two") | {"mask": masked(0.0)}
    workflow["align"]["inputs"]["face_mask"] = ["mask", 0]
    error = one_sentence(client.run(workflow), "align")
    assert error.startswith("face_mask") and "has no white part: paint white over the face" in error


def test_mask_beside_the_face(client, inputs):
    workflow = graph("face") | {
        "black": masked(0.0),
        "white": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 16, "height": 16}},
        "mask": {
            "class_type": "MaskComposite",
            "inputs": {
                "destination": ["black", 0],
                "source": ["white", 0],
                "operation": "add",
                "x": 0,
                "y": 0,
            },
        },
    }
    workflow["align"]["inputs"]["face_mask"] = ["mask", 0]
    error = one_sentence(client.run(workflow), "align")
    assert "no face has its centre inside face_mask" in error and "one was seen at (1" in error


def test_two_pictures_as_portrait(client, inputs):
    workflow = graph()
    workflow["batch"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["photo", 0], "amount": 2}}
    workflow["align"]["inputs"]["portrait"] = ["batch", 0]
    error = one_sentence(client.run(workflow), "align")
    assert error.startswith("portrait holds 2 images, expected one: pick a frame")


def test_neutral_frame_after_the_end(client, inputs):
    workflow = graph()
    workflow["align"]["inputs"]["neutral_frame"] = 7
    error = one_sentence(client.run(workflow), "align")
    assert "neutral_frame=7, but the driving track has frames 0 to 2" in error


def test_video_of_one_frame(client, inputs):
    run = client.run(graph(driving="one"))
    assert "face 0 found in 1 of 1 frames" in report(run, "track")
    assert "Aligned 1 frame" in report(run, "align")


def test_video_without_a_face(client, inputs):
    error = one_sentence(client.run(graph(driving="black")), "track")
    assert error.startswith(
        "Driving video: no face was found in any of the 4 frames (256x256 pixels); use one in"
    )


def test_video_with_a_cut_keeps_its_length(client, inputs):
    assert "face 0 found in 6 of 6 frames" in report(client.run(graph(driving="cut")), "track")


def test_face_that_leaves_and_returns(client, inputs):
    text = report(client.run(graph(driving="leaves")), "track")
    assert "face 0 found in 4 of 7 frames (0-1, 5-6), missing in 2-4" in text


def test_face_that_leaves_when_that_is_an_error(client, inputs):
    workflow = graph(driving="leaves")
    workflow["track"]["inputs"]["missing_face"] = "raise"
    error = one_sentence(client.run(workflow), "track")
    assert error.startswith(
        "Driving video: no face was found in 3 of 7 frames (2-4); cut these frames away, or choose"
    )


def test_video_on_its_side_with_a_note_to_turn_it(client, inputs):
    text = report(client.run(graph(driving="lying")), "track")
    roll = int(text.split("roll ")[1].split()[0].rstrip(",\n"))
    assert "face 0 found in 2 of 2 frames" in text and abs(roll) < 20


def test_uneven_frames_are_played_evenly(client, inputs):
    """Six frames within 0.6 s: the average rate is 10 a second, the motion is not hurried."""
    text = report(client.run(graph(driving="uneven")), "track")
    assert "6 of 6 frames" in text and "the video's rate varies" in text


@pytest.mark.parametrize("driving", ["noise", "half"])
def test_broken_video(driving, client, inputs):
    error = one_sentence(client.run(graph(driving=driving)), "track")
    assert error.startswith(f"Driving video: 'bad_{driving}.mp4' cannot be read as a video")
    assert error.endswith("export it again as mp4 (H.264).")


def test_start_after_the_end(client, inputs):
    workflow = graph()
    workflow["track"]["inputs"]["start_frame"] = 9
    error = one_sentence(client.run(workflow), "track")
    assert error.startswith(
        "Driving video: start_frame is 9, but the driving clip has 3 frames: choose a start"
    )


def test_person_who_is_chosen_is_followed(client, inputs):
    workflow = graph(driving="two")
    workflow["track"]["inputs"] |= {"face_order": "nearest to point", "point_x": 0.75}
    assert "face 0 found in 2 of 2 frames; faces seen: 2" in report(client.run(workflow), "track")


def load_track(name: str, **inputs) -> dict:
    return {
        "load": {"class_type": "MagicPortraitLoadTrack", "inputs": {"file": name, **inputs}},
        "head": {"class_type": "MagicPortraitLoadTracker", "inputs": defaults("LoadTracker")},
        "see": {"class_type": "PreviewAny", "inputs": {"source": ["load", 2]}},
    }


def test_track_of_another_head(client, inputs):
    error = one_sentence(client.run(load_track("bad_flame.safetensors")), "load")
    assert error.startswith("bad_flame.safetensors was made with the head 'flame2023', which is not built in")
    run = client.run(load_track("bad_flame.safetensors", head_tracker=["head", 0]))
    assert "was tracked with head 'flame2023', but head 'open_head' is connected" in one_sentence(run, "load")


@pytest.mark.parametrize(
    ("name", "words"),
    [("other", "a safetensors file but not a face track"), ("text", "not a readable safetensors")],
)
def test_file_that_is_no_track(name, words, client, inputs):
    error = one_sentence(client.run(load_track(f"bad_{name}.safetensors")), "load")
    assert error.startswith(f"bad_{name}.safetensors is {words}")
    assert "choose a file that Save Track wrote" in error


@pytest.mark.parametrize("name", ["gone.safetensors", "../models/x.safetensors", "x.safetensors [output]"])
def test_track_that_is_not_there(name, client, inputs):
    run = client.run(load_track(name))
    assert run.status == "rejected"
    assert f"Track '{name}' is not in" in run.error and "press R to refresh" in run.error


@pytest.mark.parametrize("name", ["heads/flame2023_Open.pkl", "heads/generic_model.pkl"])
def test_head_that_is_not_installed(name, client, inputs):
    workflow = graph()
    workflow["head"]["inputs"] = {**defaults("LoadTracker"), "head": name}
    error = client.run(workflow).error
    for words in (name.split("/")[1], "https://flame.is.tue.mpg.de", "licence", "heads", "open_head"):
        assert words in error


def test_warp_of_another_picture(client, inputs):
    workflow = graph()
    workflow["other"] = {"class_type": "LoadImage", "inputs": {"image": "bad_two.png"}}
    workflow["warp"] = {
        "class_type": "MagicPortraitFlowWarpPreview",
        "inputs": {
            **defaults("FlowWarpPreview"),
            "portrait": ["other", 0],
            "portrait_track": ["align", 1],
            "aligned": ["align", 0],
        },
    }
    workflow["see"] = {"class_type": "PreviewAny", "inputs": {"source": ["warp", 3]}}
    error = one_sentence(client.run(workflow), "warp")
    assert "the portrait is 512x256 but its track was made from a picture of 256x256" in error


def test_portrait_colours_need_both_inputs(client, inputs):
    workflow = graph()
    workflow["maps"] = {
        "class_type": "MagicPortraitRenderGuidance",
        "inputs": {**defaults("RenderGuidance"), "aligned": ["align", 0], "portrait": ["photo", 0]},
    }
    workflow["see"] = {"class_type": "PreviewImage", "inputs": {"images": ["maps", 1]}}
    error = one_sentence(client.run(workflow), "maps")
    assert error.startswith("portrait is connected but portrait_track is not")
