"""GGE Encode: guidance maps become motion features."""

from __future__ import annotations

import contextlib
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
import torch
from comfy_api.latest import io

from . import host
from .sockets import GuidanceMapsSocket, HostedModel, ModelSocket, MotionFeaturesSocket, WarpSocket

if TYPE_CHECKING:
    from ..magicportrait_core.face_view import ViewedWarp
    from ..magicportrait_core.guidance import GuidanceMaps
    from ..magicportrait_core.models.config import ModelConfig
    from ..magicportrait_core.motion_features import MapSource, MotionFeatures

Size = tuple[int, int]  # height, width

MAPS = {
    "depth": "How much the depth maps count: the head's volume and place. 0 ignores them, 1 is as trained.",
    "normal": "How much the surface directions count: expression and wrinkles. 0 ignores them, 1 is as "
    "trained.",
    "render": "How much the shaded head counts: light and skin. 0 ignores it, 1 is as trained. The built-in "
    "model does not read it.",
}
BYTES_PER_PIXEL = 600  # at the encoders' peak, in fp32: 0.16 GB at 512x512
IN_MEMORY = 2**30  # bytes of features; larger ones (400 frames at 512x512 in half precision) go to a file


class EncodeGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitEncodeGuidance",
            display_name="GGE Encode",
            category="MagicPortrait/diffusion",
            description="The Geometric Guidance Encoders: turns depth, normals and shaded head into the "
            "motion features that steer the sampler.",
            search_aliases=[
                "geometric guidance encoder",
                "motion features",
                "encode guidance",
                "control strength",
                "depth strength",
                "pose guider",
            ],
            inputs=[
                ModelSocket.Input("model", tooltip="From Load MagicPortrait Model."),
                GuidanceMapsSocket.Input("guidance", tooltip="From Render Geometric Guidance."),
                io.Int.Input(
                    "size",
                    default=0,
                    min=0,
                    max=4096,
                    step=64,
                    tooltip="Shorter side in pixels that the model works at, rounded to what it can take. 0 "
                    "is as trained: 512 for the published model; 128 for the built-in one, whose video has "
                    "the portrait's own size. Less needs less memory and time, more may repeat features.",
                ),
                *(
                    io.Float.Input(name, default=1.0, min=0.0, max=2.0, step=0.05, tooltip=text)
                    for name, text in MAPS.items()
                ),
                WarpSocket.Input(
                    "warp",
                    optional=True,
                    tooltip="From Flow Warp Preview, made from the same portrait and track as the guidance. "
                    "Needed by models that start from it, such as the built-in one; others ignore it.",
                ),
            ],
            outputs=[
                MotionFeaturesSocket.Output(
                    display_name="features", tooltip="Motion of all frames, for MagicPortrait Sampler."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model: HostedModel,
        guidance: GuidanceMaps,
        size: int = 0,
        depth: float = 1.0,
        normal: float = 1.0,
        render: float = 1.0,
        warp: ViewedWarp | None = None,
    ) -> io.NodeOutput:
        from ..magicportrait_core.reference import working_size

        maps = seen_maps(guidance, model.model.config, warp)
        pixels = working_size(maps.size, model.model.config, size or None)
        strengths = {"depth": depth, "normal": normal, "render": render}
        return io.NodeOutput(encode(model, maps, pixels, strengths, warp))


def seen_maps(guidance: GuidanceMaps, config: ModelConfig, warp: ViewedWarp | None) -> MapSource:
    """The part of the maps that the model looks at: where it corrects a warp, the square around the face."""
    from ..magicportrait_core.face_view import ViewedMaps
    from ..magicportrait_core.reference import check_same_aspect

    if config.prior is None or warp is None:
        return guidance
    whole = warp.view.picture
    slack = 1 + max(whole) / min(whole)
    check_same_aspect(whole, guidance.size, slack, "warped portrait")
    return ViewedMaps(guidance, warp.view)


def encode(
    model: HostedModel,
    guidance: MapSource,
    size: Size,
    strengths: dict[str, float],
    warp: ViewedWarp | None = None,
) -> MotionFeatures:
    """Features at a working size; those of long clips lie in a file that goes when nobody uses them."""
    from ..magicportrait_core.diffusion.memory import is_out_of_memory
    from ..magicportrait_core.motion_features import encode_motion
    from . import patchers

    config = model.model.config
    store = room_for(feature_bytes(config, guidance.num_frames, size, model.model.dtype))
    network = patchers.load(model.guidance_encoders, BYTES_PER_PIXEL * size[0] * size[1])
    try:
        with patchers.cancellable(network):
            features = encode_motion(
                network,
                guidance,
                config,
                size,
                {name: value for name, value in strengths.items() if name in config.maps},
                on_frame=host.progress(),
                store=store,
                fingerprint=model.model.fingerprint,
                device=model.guidance_encoders.load_device,
                warped=warp,
            )
    except BaseException as error:
        if store:
            remove(store)
        if isinstance(error, Exception) and is_out_of_memory(error):
            raise torch.OutOfMemoryError(
                f"out of memory while encoding guidance at {size[1]}x{size[0]} pixels: choose a size below "
                f"{min(size)} in GGE Encode, or fp16 in Load MagicPortrait Model"
            ) from error.with_traceback(None)
        raise
    if store:
        weakref.finalize(features, remove, store)
    return features


def feature_bytes(config: ModelConfig, frames: int, size: Size, dtype: torch.dtype) -> int:
    cells = size[0] * size[1] // config.pixels_per_cell**2
    return frames * cells * config.unet.block_out_channels[0] * dtype.itemsize


def room_for(size: int) -> Path | None:
    """A file for `size` bytes in the host's temporary folder, None where memory will do."""
    if size <= IN_MEMORY:
        return None
    return Path(folder_paths.get_temp_directory(), host.MODEL_KIND, f"features_{uuid.uuid4().hex}.bin")


def remove(file: Path) -> None:
    with contextlib.suppress(OSError):  # still mapped, on Windows; the host empties the folder when it starts
        file.unlink(missing_ok=True)
