"""Writes workflows/*.json (for the template browser) and workflows/api/*.json from workflow_graphs.py.

    python scripts/host.py run scripts/make_workflows.py

The nodes describe themselves: a real server is started and asked for its /object_info, which gives default
values, output numbers and the order of widgets. Edit the graphs, run this, and commit what it wrote.
"""

from __future__ import annotations

import json
import os
import tempfile
import textwrap
import uuid
from pathlib import Path

from comfy_client import ComfyClient
from comfy_server import ComfyServer, local_interpreter
from workflow_graphs import GRAPHS, Graph, Node, Out

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "workflows"

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
AUTOGROW = "COMFY_AUTOGROW_V3"  # a list of sockets that grows by one whenever the last one is connected
COLUMN_GAP, ROW_GAP, TITLE_HEIGHT = 80, 50, 30  # pixels on the canvas
SLOT_HEIGHT, WIDGET_HEIGHT = 20, 24
# What nodes show below their widgets after a run: pictures, videos, texts.
PREVIEW_HEIGHTS = {
    "LoadImage": 290,
    "LoadVideo": 310,
    "SaveVideo": 310,
    "MagicPortraitTrackVideo": 440,
    "MagicPortraitAlignIdentity": 440,
    "MagicPortraitRenderGuidance": 340,
    "MagicPortraitFlowWarpPreview": 400,
    "MagicPortraitSaveTrack": 80,
    "MagicPortraitLoadTrack": 80,
    "MagicPortraitSampler": 320,
    "MagicPortraitDecode": 320,
    "CLIPTextEncode": 100,
}
NOTE_WIDTH, NOTE_LINE = 620, 14  # pixels
GROUP_COLOURS = ("#3f789e", "#8A8", "#b58b2a", "#a1309b", "#88A")
NAMESPACE = uuid.UUID(
    "6b2c9f5e-41f5-4a3b-9a58-6a4f0a3f9f10"
)  # ids of graphs stay the same when they are remade


class Writer:
    """Turns graphs into ComfyUI's two file formats, with what the server says about each node."""

    def __init__(self, object_info: dict):
        self.object_info = object_info

    def api(self, graph: Graph) -> dict:
        """API format: what POST /prompt takes."""
        ids = self._ids(graph)
        return {
            ids[key]: {
                "class_type": node.type,
                "inputs": {
                    name: [ids[value.node], self._output(graph, value)] if isinstance(value, Out) else value
                    for name, value in self._values(node).items()
                },
                "_meta": {"title": node.title},
            }
            for key, node in graph.nodes.items()
        }

    def ui(self, name: str, graph: Graph) -> dict:
        """The format that the canvas opens and saves."""
        ids, links, boxes = self._ids(graph), [], self._boxes(graph)
        nodes = {key: self._ui_node(key, node, ids, boxes) for key, node in graph.nodes.items()}
        for key, node in graph.nodes.items():
            for entry in nodes[key]["inputs"]:
                source = node.inputs.get(entry["name"])
                if isinstance(source, Out):
                    slot = self._output(graph, source)
                    output = nodes[source.node]["outputs"][slot]
                    entry["link"] = len(links) + 1
                    output["links"] = [*(output["links"] or []), entry["link"]]
                    target = nodes[key]["inputs"].index(entry)
                    links.append(
                        [entry["link"], int(ids[source.node]), slot, int(ids[key]), target, output["type"]]
                    )
        note = self._note(graph, len(nodes) + 1)
        return {
            "id": str(uuid.uuid5(NAMESPACE, name)),
            "revision": 0,
            "last_node_id": note["id"],
            "last_link_id": len(links),
            "nodes": [*nodes.values(), note],
            "links": links,
            "groups": self._groups(graph, boxes),
            "config": {},
            "extra": {"ds": {"scale": 0.6, "offset": [60, 340]}},
            "version": 0.4,
        }

    @staticmethod
    def _ids(graph: Graph) -> dict[str, str]:
        return {key: str(i) for i, key in enumerate(graph.nodes, start=1)}

    def _inputs(self, node: Node) -> dict:
        """Name -> [type, options] in the order of the node's sockets and widgets."""
        spec = self.object_info[node.type]["input"]
        declared = {**spec.get("required", {}), **spec.get("optional", {})}
        return {
            name: part
            for label, value in declared.items()
            for name, part in (growing(label, value, node) if value[0] == AUTOGROW else [(label, value)])
        }

    def _values(self, node: Node) -> dict:
        unknown = set(node.inputs) - set(self._inputs(node))
        if unknown:
            raise ValueError(f"{node.type} has no input {sorted(unknown)}")
        defaults = {
            name: default_of(spec)
            for name, spec in self._inputs(node).items()
            if is_widget(spec) and name not in node.inputs
        }
        return {**defaults, **node.inputs}

    def _output(self, graph: Graph, out: Out) -> int:
        names = self.object_info[graph.nodes[out.node].type]["output_name"]
        if out.output not in names:
            raise ValueError(f"{graph.nodes[out.node].type} has no output {out.output!r}, only {names}")
        return names.index(out.output)

    def _ui_node(self, key: str, node: Node, ids: dict, boxes: dict) -> dict:
        info, inputs, values = self.object_info[node.type], [], self._values(node)
        for name, spec in self._inputs(node).items():
            if is_widget(spec) and not isinstance(values.get(name), Out):
                continue
            entry = {"name": name, "type": spec[0], "link": None}
            if is_widget(spec):
                entry["widget"] = {"name": name}
            if "." in name:
                entry["label"] = name.partition(".")[2]
            if name in info["input"].get("optional", {}) or ("." in name and name not in node.inputs):
                entry["shape"] = 7  # a round socket: may stay empty
            inputs.append(entry)
        left, top, width, height = boxes[key]
        ours = node.type.startswith("MagicPortrait")
        return {
            "id": int(ids[key]),
            "type": node.type,
            "pos": [left, top],
            "size": [width, height],
            "flags": {},
            "order": int(ids[key]) - 1,
            "mode": 0,
            "inputs": inputs,
            "outputs": [
                {"name": label, "type": kind, "links": None}
                for label, kind in zip(info["output_name"], info["output"], strict=True)
            ],
            "title": node.title,
            "properties": {
                "Node name for S&R": node.type,
                "cnr_id": "magicportrait" if ours else "comfy-core",
                "ver": "0.1.0" if ours else "0.30.0",
            }
            | missing_models(node),
            "widgets_values": self._widget_values(node, values),
        }

    def _widget_values(self, node: Node, values: dict) -> list:
        listed = []
        for name, spec in self._inputs(node).items():
            if is_widget(spec):
                value = values[name]
                listed.append(default_of(spec) if isinstance(value, Out) else value)
                if options_of(spec).get("control_after_generate"):
                    listed.append("fixed")  # a seed that changes by itself would never find a kept result
                if {"image_upload", "video_upload"} & set(options_of(spec)):
                    listed.append("image")  # the upload button
        return listed

    def _height(self, node: Node) -> int:
        specs = self._inputs(node)
        widgets = sum(is_widget(spec) for spec in specs.values())
        sockets = max(len(specs) - widgets, len(self.object_info[node.type]["output"]))
        return sockets * SLOT_HEIGHT + widgets * WIDGET_HEIGHT + 14 + PREVIEW_HEIGHTS.get(node.type, 0)

    def _boxes(self, graph: Graph) -> dict[str, tuple[int, int, int, int]]:
        """left, top, width, height of each node: columns side by side, nodes below one another."""
        boxes, left = {}, 0
        for column in range(len(graph.columns)):
            members = [(key, node) for key, node in graph.nodes.items() if node.column == column]
            width, top = max(node.width for _, node in members), 0
            for key, node in members:
                height = self._height(node)
                boxes[key] = (left, top, width, height)
                top += height + node.space + ROW_GAP
            left += width + COLUMN_GAP
        return boxes

    @staticmethod
    def _groups(graph: Graph, boxes: dict) -> list[dict]:
        groups = []
        for first, title in enumerate(graph.columns):
            if not title:
                continue
            last = first + 1
            while last < len(graph.columns) and not graph.columns[last]:
                last += 1
            members = [boxes[key] for key, node in graph.nodes.items() if first <= node.column < last]
            left = min(box[0] for box in members)
            right = max(box[0] + box[2] for box in members)
            bottom = max(box[1] + box[3] for box in members)
            groups.append(
                {
                    "id": len(groups) + 1,
                    "title": title,
                    "bounding": [
                        left - 20,
                        -TITLE_HEIGHT - 50,
                        right - left + 40,
                        bottom + TITLE_HEIGHT + 70,
                    ],
                    "color": GROUP_COLOURS[len(groups) % len(GROUP_COLOURS)],
                    "font_size": 24,
                    "flags": {},
                }
            )
        return groups

    @staticmethod
    def _note(graph: Graph, number: int) -> dict:
        text = textwrap.dedent(graph.note).strip()
        height = max(240, 80 + NOTE_LINE * len(text.splitlines()))
        return {
            "id": number,
            "type": "MarkdownNote",
            "pos": [0, -120 - height],
            "size": [NOTE_WIDTH, height],
            "flags": {},
            "order": number - 1,
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "properties": {},
            "widgets_values": [text],
            "color": "#432",
            "bgcolor": "#653",
        }


def growing(label: str, spec: list, node: Node) -> list[tuple[str, list]]:
    """The connected sockets of a list that grows, and the free one below them."""
    template = spec[1]["template"]
    (part,) = [part for group in template["input"].values() for part in group.values()]
    used = sum(name.startswith(f"{label}.") for name in node.inputs)
    return [(f"{label}.{template['prefix']}{i}", part) for i in range(min(used + 1, template["max"]))]


def missing_models(node: Node) -> dict:
    """The property from which the canvas tells people which files they lack."""
    files = [{"name": file.name, "url": file.url, "directory": file.folder} for file in node.files]
    return {"models": files} if files else {}


def options_of(spec: list) -> dict:
    return spec[1] if len(spec) > 1 else {}


def is_widget(spec: list) -> bool:
    """True for inputs with a control of their own on the node."""
    return (isinstance(spec[0], list) or spec[0] in WIDGET_TYPES) and not options_of(spec).get("forceInput")


def default_of(spec: list):
    """The value that a fresh node shows."""
    options = options_of(spec)
    if "default" in options:
        return options["default"]
    if spec[0] == "COMFY_DYNAMICCOMBO_V3":
        return options["options"][0]["key"]
    choices = spec[0] if isinstance(spec[0], list) else options.get("options")
    if choices:
        return choices[0]
    return {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}.get(spec[0], "")


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    print(path.relative_to(ROOT))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        comfyui = Path(os.environ["COMFYUI_PATH"])
        with ComfyServer(local_interpreter(), comfyui, base, base / "server.log") as server:
            writer = Writer(ComfyClient(server.url).get_json("/object_info"))
    for name, graph in GRAPHS.items():
        write_json(FOLDER / "api" / f"{name}.json", writer.api(graph))
        write_json(FOLDER / f"{name}.json", writer.ui(name, graph))


if __name__ == "__main__":
    main()
