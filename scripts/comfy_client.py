"""Drives a running ComfyUI over HTTP and websocket: queue a workflow, follow it, cancel it, fetch results."""

from __future__ import annotations

import asyncio
import json
import struct
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

# Kinds of binary websocket messages, numbered in ComfyUI's protocol.py.
PREVIEW_IMAGE = 1
PROGRESS_TEXT = 3
PREVIEW_IMAGE_WITH_METADATA = 4

SILENCE = 1800.0  # seconds without any message after which a run is given up


@dataclass(frozen=True)
class Event:
    """One thing that happened while a workflow ran."""

    kind: str  # executing, progress, progress_state, preview, text, executed, execution_error ...
    node: str | None  # node of the workflow, where the event names one
    data: dict  # the message; for previews {"bytes": jpeg}, for texts {"text": str}
    time: float  # seconds since the workflow was queued


@dataclass
class Run:
    """What became of one queued workflow."""

    status: str = "queued"  # success, error, interrupted, rejected
    prompt_id: str = ""
    error: str = ""  # the sentence shown to the user
    error_node: str | None = None
    node_errors: dict = field(default_factory=dict)  # why a workflow was rejected, by node
    outputs: dict = field(default_factory=dict)  # by node, as in the history
    events: list[Event] = field(default_factory=list)
    seconds: float = 0.0
    cancel_seconds: float | None = None  # from asking to cancel until the server said it was done

    def of_kind(self, kind: str, node: str | None = None) -> list[Event]:
        return [event for event in self.events if event.kind == kind and node in (None, event.node)]

    def executed_nodes(self) -> list[str]:
        return [event.node for event in self.of_kind("executing") if event.node is not None]

    def files(self) -> list[dict]:
        """Saved files of all nodes: dictionaries with filename, subfolder and type."""
        found = []
        for output in self.outputs.values():
            for items in output.values():
                found += [item for item in items if isinstance(item, dict) and "filename" in item]
        return found


class ComfyClient:
    """A client of the server at `url`, such as http://127.0.0.1:8188."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read()

    def get_json(self, path: str):
        return json.loads(self.get(path))

    def free(self) -> None:
        """Make the server forget its results and take all models off the device."""
        body = json.dumps({"unload_models": True, "free_memory": True}).encode()
        request = urllib.request.Request(self.url + "/free", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=60).close()

    def status_of(self, path: str) -> int:
        """The HTTP status of a path."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def run(
        self,
        workflow: dict,  # API format
        on_event: Callable[[Event], None] | None = None,
        cancel_when: Callable[[Event], bool] | None = None,
    ) -> Run:
        """Queue a workflow and follow it to its end; `cancel_when` asks for cancelling at its first True."""
        return asyncio.run(self._run(workflow, on_event or (lambda event: None), cancel_when))

    async def _run(self, workflow, on_event, cancel_when) -> Run:
        run, client = Run(), uuid.uuid4().hex
        async with aiohttp.ClientSession() as session:
            socket_url = self.url.replace("http", "ws", 1) + f"/ws?clientId={client}"
            async with session.ws_connect(socket_url, max_msg_size=0) as socket:
                await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
                start = time.monotonic()
                answer = await session.post(
                    self.url + "/prompt", json={"prompt": workflow, "client_id": client}
                )
                body = await answer.json()
                if answer.status != 200:
                    return self._rejected(run, body)
                run.prompt_id = body["prompt_id"]
                await self._follow(session, socket, run, start, on_event, cancel_when)
                run.seconds = time.monotonic() - start
            run.outputs = await self._outputs(session, run.prompt_id)
        return run

    @staticmethod
    def _rejected(run: Run, body: dict) -> Run:
        run.status, run.node_errors = "rejected", body.get("node_errors") or {}
        details = [
            f"{error['message']}: {error['details']}".strip(": ")
            for problem in run.node_errors.values()
            for error in problem["errors"]
        ]
        run.error = "; ".join(details) or body.get("error", {}).get("message", "rejected")
        return run

    async def _follow(self, session, socket, run: Run, start: float, on_event, cancel_when) -> None:
        asked = None
        while run.status == "queued":
            message = await socket.receive(timeout=SILENCE)
            if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.ERROR):
                run.status, run.error = "error", "the server closed the connection"
                return
            event = read_message(message, time.monotonic() - start)
            if event is None or event.data.get("prompt_id", run.prompt_id) != run.prompt_id:
                continue
            run.events.append(event)
            on_event(event)
            if cancel_when and asked is None and cancel_when(event):
                asked = time.monotonic()
                await session.post(self.url + "/interrupt", json={"prompt_id": run.prompt_id})
            note_end(run, event)
        if run.status == "interrupted" and asked is not None:
            run.cancel_seconds = time.monotonic() - asked

    async def _outputs(self, session, prompt_id: str) -> dict:
        for _ in range(100):
            try:
                async with session.get(f"{self.url}/history/{prompt_id}") as answer:
                    history = await answer.json()
            except aiohttp.ClientError:  # the server is gone
                break
            if prompt_id in history:
                return history[prompt_id].get("outputs", {})
            await asyncio.sleep(0.05)
        return {}


def note_end(run: Run, event: Event) -> None:
    """Set the run's status from an event that ends it."""
    if event.kind == "execution_success":
        run.status = "success"
    elif event.kind == "execution_interrupted":
        run.status = "interrupted"
    elif event.kind == "execution_error":
        run.status = "error"
        run.error = event.data.get("exception_message", "").strip()
        run.error_node = event.data.get("node_id")


def read_message(message: aiohttp.WSMessage, seconds: float) -> Event | None:
    """The event in a websocket message, or None for kinds that are of no interest."""
    if message.type == aiohttp.WSMsgType.TEXT:
        body = json.loads(message.data)
        data = body.get("data") or {}
        node = data.get("node") or data.get("node_id")
        return Event(body["type"], None if node is None else str(node), data, seconds)
    if message.type == aiohttp.WSMsgType.BINARY:
        return read_binary(message.data, seconds)
    return None


def read_binary(data: bytes, seconds: float) -> Event | None:
    """Previews and progress texts; the layout is ComfyUI's (big-endian kind, then lengths)."""
    (kind,) = struct.unpack(">I", data[:4])
    if kind == PREVIEW_IMAGE:
        return Event("preview", None, {"bytes": data[8:]}, seconds)
    if kind == PREVIEW_IMAGE_WITH_METADATA:
        (length,) = struct.unpack(">I", data[4:8])
        about = json.loads(data[8 : 8 + length])
        return Event("preview", about.get("node_id"), {"bytes": data[8 + length :], **about}, seconds)
    if kind == PROGRESS_TEXT:
        (length,) = struct.unpack(">I", data[4:8])
        node = data[8 : 8 + length].decode()
        return Event("text", node, {"text": data[8 + length :].decode()}, seconds)
    return None
