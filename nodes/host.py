"""ComfyUI's side of the adapters: pictures, masks, progress, devices and folders."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import ui
from comfy_execution.utils import get_executing_context
from einops import rearrange
from PIL import Image
from server import PromptServer
from torch import Tensor

MODEL_KIND = "magicportrait"  # models/magicportrait
MODEL_EXTENSIONS = {".safetensors", ".pkl", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".npz"}
PREVIEW_SIDE = 384  # pixels, long side of the picture shown while a node works
CANCEL_SECONDS = 0.05  # between looks at the cancel button during work that reports no progress
PREVIEW_SECONDS = 0.25  # between two of them
GREY = 128 / 255  # behind transparent parts, as media.image

T = TypeVar("T")
Picture = Tensor | Image.Image  # (3, H, W) in [-1, 1], or small and ready
OnStep = Callable[..., None]  # (done, total, Picture, a function that makes one, or None)


def trim_heap() -> None:
    """Give memory that nobody uses back to the system, where the C library keeps it (glibc).

    Frames of tens of megabytes come and go between small results that stay. Those split the hole that a
    frame leaves, the next frame does not fit, and the heap grows by a frame for every frame of the clip.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def register_model_folder() -> None:
    """models/magicportrait as a kind of its own; users may add paths in extra_model_paths.yaml."""
    folder = Path(folder_paths.models_dir) / MODEL_KIND
    folder_paths.add_model_folder_path(MODEL_KIND, str(folder))
    paths, extensions = folder_paths.folder_names_and_paths[MODEL_KIND]
    # A kind made by add_model_folder_path has no extensions, which means every file.
    folder_paths.folder_names_and_paths[MODEL_KIND] = (paths, set(extensions) | MODEL_EXTENSIONS)


def model_folder() -> str:
    """The first models/magicportrait folder, for sentences that tell people where to put a file."""
    return folder_paths.get_folder_paths(MODEL_KIND)[0]


def choose_device(option: str) -> torch.device:
    """The torch device of the host's choice ("default", "cpu", "gpu:1")."""
    chosen = comfy.model_management.resolve_gpu_device_option(option)
    return comfy.model_management.get_torch_device() if chosen is None else chosen


def render_device() -> torch.device:
    """Where rendering runs: CUDA and ROCm when the host uses them, else the CPU, which is fast enough."""
    device = comfy.model_management.get_torch_device()
    return device if device.type == "cuda" else torch.device("cpu")


@contextmanager
def ordinary_tensors():
    """Nodes run in inference mode, whose tensors can never take part in a fit; core gets ordinary ones."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def to_pictures(
    image: Tensor,  # (F, H, W, C) in [0, 1], the host's IMAGE with 1, 3 or 4 channels
) -> Tensor:  # (F, 3, H, W) in [-1, 1]; transparency becomes grey
    """Core's pictures of an IMAGE. Call it inside ordinary_tensors()."""
    if image.ndim == 3:  # some nodes drop the batch axis
        image = image[None]
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or 0 in image.shape:
        raise ValueError(
            f"image has shape {tuple(image.shape)}; expected (frames, height, width, 1, 3 or 4 channels): "
            "connect the IMAGE output of Load Image or Get Video Components"
        )
    image = image.to(dtype=torch.float32, device="cpu")
    if image.shape[-1] == 4:
        colour, alpha = image[..., :3], image[..., 3:]
        image = colour * alpha + GREY * (1 - alpha)
    if image.shape[-1] == 1:
        image = image.expand(*image.shape[:-1], 3)
    return rearrange(image.nan_to_num().clamp(0, 1), "f h w c -> f c h w").contiguous() * 2 - 1


def one_picture(image: Tensor, name: str) -> Tensor:  # (3, H, W) in [-1, 1]
    """The only picture of an IMAGE; several are refused, since using the first silently would surprise."""
    pictures = to_pictures(image)
    if pictures.shape[0] != 1:
        raise ValueError(
            f"{name} holds {pictures.shape[0]} images, expected one: pick a frame with Image From Batch first"
        )
    return pictures[0]


def one_mask(mask: Tensor, name: str) -> Tensor:  # (H, W) in [0, 1]
    """The only mask of a MASK."""
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3 or mask.shape[0] != 1:
        raise ValueError(f"{name} has shape {tuple(mask.shape)}; expected one mask, (1, height, width)")
    return mask[0].to(dtype=torch.float32, device="cpu")


def to_image(pictures: Tensor) -> Tensor:
    """The host's IMAGE (F, H, W, 3) in [0, 1] of pictures (F, 3, H, W) in [-1, 1]."""
    levels = pictures.float().add(1).mul_(0.5).clamp_(0, 1)
    return rearrange(levels, "f c h w -> f h w c").cpu().contiguous()


def collect(pictures: Iterable[Tensor], total: int) -> Tensor:
    """The host's IMAGE (total, H, W, 3) of pictures (3, H, W) that come one at a time: no second copy."""
    image = None
    for i, picture in enumerate(pictures):
        if image is None:
            image = torch.empty(total, *picture.shape[-2:], 3)
        image[i] = to_image(picture[None])[0]
    return image


def map_to_image(maps: Tensor) -> Tensor:
    """The host's IMAGE (F, H, W, 3) in [0, 1] of guidance maps (F, 1 or 3, H, W) in [0, 1]."""
    levels = maps.float().clamp(0, 1).expand(-1, 3, -1, -1)
    return rearrange(levels, "f c h w -> f h w c").cpu().contiguous()


def to_mask(mask: Tensor) -> Tensor:
    """The host's MASK (F, H, W) in [0, 1] of a mask (F, H, W) or (F, 1, H, W)."""
    mask = mask[:, 0] if mask.ndim == 4 else mask
    return mask.float().clamp(0, 1).cpu().contiguous()


def scaled(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Height and width with a longer side of about `longest`, of the aspect that Camera.resized wants."""
    height = max(1, round(size[0] * longest / max(size)))
    return height, max(1, round(size[1] * height / size[0]))


def to_pil(
    picture: Tensor,  # (3, H, W) in [-1, 1]
    longest: int = PREVIEW_SIDE,
) -> Image.Image:
    """A small picture for people."""
    picture = picture.detach()
    stride = max(1, max(picture.shape[-2:]) // longest)
    small = picture[:, ::stride, ::stride].float().cpu()
    pixels = ((small + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(rearrange(pixels, "c h w -> h w c").numpy())


def check_cancelled() -> None:
    """Raises the host's interruption when the user pressed cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def interruptible(work: Callable[..., T], *arguments) -> T:
    """work(*arguments) in a thread, so that cancelling need not wait for it; its result is then dropped."""

    def run() -> T:
        with ordinary_tensors():  # both modes belong to the thread
            return work(*arguments)

    worker = ThreadPoolExecutor(max_workers=1)
    try:
        future = worker.submit(run)
        while not wait([future], timeout=CANCEL_SECONDS).done:
            check_cancelled()
        return future.result()
    finally:
        worker.shutdown(wait=False)


class Progress:
    """One bar over several stages of work; each stage reports (done, total, picture).

    The picture may be a function that makes one: it is called only when a preview is due.
    """

    STEPS = 1000

    def __init__(self, node_id: str | None = None):
        self._bar = comfy.utils.ProgressBar(self.STEPS, node_id=node_id)
        self._shown = 0.0
        check_cancelled()

    def stage(self, begin: float, end: float) -> OnStep:
        """The callback of the stage that fills the bar from `begin` to `end`, shares of the whole."""

        def on_step(done: int, total: int, picture: Picture | Callable[[], Picture] | None = None) -> None:
            check_cancelled()
            share = begin + (end - begin) * min(1.0, done / max(1, total))
            self._bar.update_absolute(int(share * self.STEPS), self.STEPS, self._preview(picture))

        return on_step

    def _preview(self, picture: Picture | Callable[[], Picture] | None):
        now = time.monotonic()
        if picture is None or now - self._shown < PREVIEW_SECONDS:
            return None
        self._shown = now
        picture = picture() if callable(picture) else picture
        return ("JPEG", picture if isinstance(picture, Image.Image) else to_pil(picture), PREVIEW_SIDE)


def progress(node_id: str | None = None) -> OnStep:
    """The callback of a node with a single stage."""
    return Progress(node_id).stage(0.0, 1.0)


def spread(total: int, limit: int) -> list[int]:
    """The numbers of at most `limit` frames, evenly over a clip of `total`; 0 means all."""
    if limit <= 0 or limit >= total:
        return list(range(total))
    if limit == 1:
        return [total // 2]
    return [round(i * (total - 1) / (limit - 1)) for i in range(limit)]


def files_below(folder: str | Path, extension: str) -> list[str]:
    """Names, relative to `folder`, of the files in and below it with `extension`, without hidden ones."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    names = (path.relative_to(folder) for path in folder.rglob(f"*{extension}") if path.is_file())
    return sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))


def say(text: str) -> None:
    """Show `text` on the node that is running."""
    server, context = getattr(PromptServer, "instance", None), get_executing_context()
    if server is not None and context is not None:
        server.send_progress_text(text, context.node_id)


def show_text(text: str) -> ui.PreviewText:
    """`text` as a node's result for the interface, and shown on the node that is running."""
    say(text)
    return ui.PreviewText(text)
