"""Graphs of the released guidance for tests in the real server, and the pictures and clips they read."""

from __future__ import annotations

from pathlib import Path

import av
from PIL import Image
from skimage import data

SIDE = 256
FACE_BOX = (95, 4, 359, 268)  # head and shoulders in the 512-pixel photo
RELEASED = "DECA + SMIRK (licensed files)"
FLAME = "heads/generic_model.pkl"
LOADER = ("tracker", "head", "deca", "smirk", "texture", "eyelids", "gaze", "full_resolution")
RAW_PYTHON = ("Traceback", "NoneType", "object has no attribute", "Errno", "IndexError", "KeyError")


def face(right: int = 0, degrees: float = 0.0) -> Image.Image:
    picture = Image.fromarray(data.astronaut()).crop(FACE_BOX).resize((SIDE, SIDE))
    return picture.rotate(degrees, Image.Resampling.BICUBIC, translate=(right, 0), fillcolor=(90, 100, 110))


def write_inputs(folder: Path) -> None:
    face().save(folder / "released_face.png")
    Image.fromarray(data.astronaut()).save(folder / "released_whole.png")
    Image.new("RGB", (SIDE, SIDE), (90, 100, 110)).save(folder / "released_empty.png")
    black = Image.new("RGB", (SIDE, SIDE))
    write_clip(folder / "released_drive.mp4", [face(4 * i, 3 * i) for i in range(4)])
    write_clip(folder / "released_leaves.mp4", [face(), face(3), black, black, face(6)])
    write_clip(folder / "released_long.mp4", [face(i % 7, i % 5) for i in range(60)])


def write_clip(path: Path, pictures: list[Image.Image]) -> None:
    """10 frames a second."""
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("h264", rate=10)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            sink.mux(stream.encode(av.VideoFrame.from_image(picture)))
        sink.mux(stream.encode())


class Graph:
    """Graphs with the nodes' defaults; unknown names are widgets of whichever node has them."""

    def __init__(self, object_info: dict):
        self._nodes = {n: i["input"] for n, i in object_info.items() if n.startswith("MagicPortrait")}

    def defaults(self, name: str) -> dict:
        """As an old client sends them: without optional widgets."""
        required = self._nodes[f"MagicPortrait{name}"]["required"]
        return {k: v[1]["default"] for k, v in required.items() if len(v) > 1 and "default" in v[1]}

    def node(self, name: str, links: dict, widgets: dict) -> dict:
        known = [*self._nodes[f"MagicPortrait{name}"]["required"]]
        known += self._nodes[f"MagicPortrait{name}"].get("optional", {})
        mine = {k: widgets.pop(k) for k in list(widgets) if k in known and k not in links}
        return {"class_type": f"MagicPortrait{name}", "inputs": {**self.defaults(name), **links, **mine}}

    def loader(self, **widgets) -> dict:
        return self.node("LoadTracker", {}, {"tracker": RELEASED, "head": FLAME, **widgets})

    def maps(self, portrait: str = "face", driving: str = "drive", **widgets) -> dict:
        """Portrait and driving video to maps as pictures, with reports."""
        loader = {k: widgets.pop(k) for k in LOADER if k in widgets}
        workflow = {
            "head": self.loader(**loader),
            "clip": {"class_type": "LoadVideo", "inputs": {"file": f"released_{driving}.mp4"}},
            "photo": {"class_type": "LoadImage", "inputs": {"image": f"released_{portrait}.png"}},
            "track": self.node("TrackVideo", {"head_tracker": ["head", 0], "video": ["clip", 0]}, widgets),
            "align": self.node(
                "AlignIdentity",
                {"head_tracker": ["head", 0], "portrait": ["photo", 0], "driving": ["track", 0]},
                widgets,
            ),
            "maps": self.node(
                "RenderGuidance",
                {"aligned": ["align", 0], "portrait": ["photo", 0], "portrait_track": ["align", 1]},
                widgets,
            ),
        }
        assert not widgets, f"no node has {list(widgets)}"
        for node, output in (("head", 1), ("track", 5), ("align", 3)):
            workflow[f"{node}_report"] = {"class_type": "PreviewAny", "inputs": {"source": [node, output]}}
        for place, name in enumerate(("depth", "normal", "render"), start=1):
            workflow[name] = {
                "class_type": "SaveImage",
                "inputs": {"images": ["maps", place], "filename_prefix": f"released/{name}"},
            }
        return workflow


def report(run, node: str) -> str:
    assert run.status == "success", run.error
    return run.outputs[f"{node}_report"]["text"][0]


def one_sentence(run, node: str) -> str:
    """The error of a run that ended at `node`."""
    assert run.status == "error" and run.error_node == node, (run.status, run.error)
    assert len(run.error) > 40 and "\n" not in run.error.strip(), run.error
    assert not any(word in run.error for word in RAW_PYTHON), run.error
    return run.error
