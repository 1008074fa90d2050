"""Decode Portrait: latents become pictures, by the VAE or as corrections of the flow-warped portrait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from comfy_api.latest import io
from torch import Tensor

from . import host
from .sockets import HostedModel, ModelSocket, WarpSocket

if TYPE_CHECKING:
    from comfy.sd import VAE

    from ..magicportrait_core.face_view import ViewedWarp
    from ..magicportrait_core.models.config import ModelConfig

FRAMES_AT_ONCE = 4  # given to the VAE together, between two looks at the cancel button


class DecodePortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitDecode",
            display_name="Decode Portrait",
            category="MagicPortrait/diffusion",
            description="Turns latents into pictures for every model: the built-in one corrects the warped "
            "portrait at its full size, others are decoded by the VAE.",
            search_aliases=[
                "vae decode",
                "decode latent",
                "latent to image",
                "pixel unshuffle",
                "full resolution",
                "upscale correction",
            ],
            inputs=[
                io.Latent.Input("latent", tooltip="From Temporal Aggregate."),
                ModelSocket.Input("model", tooltip="The model that the sampler used."),
                WarpSocket.Input(
                    "warp",
                    optional=True,
                    tooltip="From Flow Warp Preview, the same as for GGE Encode. Needed by models that start "
                    "from it, such as the built-in one; others ignore it.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The VAE that the sampler used. The built-in model needs none.",
                ),
            ],
            outputs=[
                io.Image.Output("image", tooltip="All frames in order, for Create Video."),
                io.String.Output("report", tooltip="Size of the frames, and how much the model changed."),
            ],
        )

    @classmethod
    def execute(
        cls,
        latent: dict,
        model: HostedModel,
        warp: ViewedWarp | None = None,
        vae: VAE | None = None,
    ) -> io.NodeOutput:
        config = model.model.config
        samples = checked_samples(latent, config, model.model.name)
        if config.autoencoder == "vae":
            image, report = decode_with_vae(samples, config, vae)
        else:
            image, report = decode_over_warp(samples, model, warp)
        return io.NodeOutput(image, report, ui=host.show_text(report))


def checked_samples(latent: dict, config: ModelConfig, name: str) -> Tensor:  # (F, C, h, w)
    """The latents, if their shape is one that the model makes."""
    samples = latent["samples"]
    shape, channels = tuple(samples.shape), config.unet.latent_channels
    if getattr(samples, "is_nested", False) or len(shape) != 4 or shape[1] != channels or 0 in shape:
        raise ValueError(
            f"latent has the shape {shape}, those of the model {name!r} have (frames, {channels}, height, "
            "width): connect Temporal Aggregate, and the model that its samplers used."
        )
    return samples


def decode_with_vae(samples: Tensor, config: ModelConfig, vae: VAE | None) -> tuple[Tensor, str]:
    """As the host's VAE Decode, a few frames at a time."""
    from .foreign_inputs import check_vae

    check_vae(vae, config)
    total, on_step = len(samples), host.progress()

    def pictures() -> Iterator[Tensor]:
        for first in range(0, total, FRAMES_AT_ONCE):
            decoded = vae.decode(samples[first : first + FRAMES_AT_ONCE])
            for i, picture in enumerate(decoded.movedim(-1, 1) * 2 - 1, start=1):
                yield picture
                on_step(first + i, total, picture)

    image = host.collect(pictures(), total)
    return image, f"{total} frames of {image.shape[2]}x{image.shape[1]} pixels, decoded by the VAE"


def decode_over_warp(samples: Tensor, model: HostedModel, warp: ViewedWarp | None) -> tuple[Tensor, str]:
    """The warped portrait at its own size, with what the model changed around the face."""
    from ..magicportrait_core.pipeline import decode_clip
    from ..magicportrait_core.pixel_unshuffle import PixelUnshuffle

    config = model.model.config
    working = tuple(cells * config.pixels_per_cell for cells in samples.shape[-2:])
    check_warp(warp, len(samples), working, config, model.model.name)
    total, on_step, changes = len(samples), host.progress(), []
    frames = decode_clip(
        samples.cpu().movedim(0, 1) * config.latent_scale,
        model.model,
        PixelUnshuffle(config.pixels_per_cell),
        warped=warp,
    )

    def watched() -> Iterator[Tensor]:
        for i, frame in enumerate(frames):
            before = warp[i : i + 1].warp_levels[0]
            changes.append(float((frame * 127.5 + 127.5 - before).abs().mean()))
            yield frame
            on_step(i + 1, total, frame)

    image = host.collect(warp.paste(watched()), total)
    (height, width), view = warp.view.picture, warp.view.size
    return image, (
        f"{total} frames of {width}x{height} pixels: the warped portrait, changed by "
        f"{sum(changes) / total:.1f} of 255 levels on average in the {view[1]}x{view[0]} pixels around the "
        f"face, which the model sees at {working[1]}x{working[0]}"
    )


def check_warp(
    warp: ViewedWarp | None, frames: int, working: tuple[int, int], config: ModelConfig, name: str
) -> None:
    """Refuses a warp that the latents cannot be corrections of."""
    from ..magicportrait_core.reference import check_same_aspect, named

    if warp is None:
        raise ValueError(
            f"warp is not connected, and the model {name!r} corrects the flow-warped portrait: connect the "
            "warp output of Flow Warp Preview that GGE Encode has."
        )
    if warp.num_frames != frames:
        raise ValueError(
            f"warp has {warp.num_frames} frames and latent {frames}: connect the warp output of Flow Warp "
            "Preview that GGE Encode has."
        )
    try:
        check_same_aspect(warp.size, working, slack=0.75 * config.pixel_multiple)
    except ValueError:
        raise ValueError(
            f"warp is {named(warp.size)} pixels and latent was made at {named(working)}, which is another "
            "aspect: connect the warp output of Flow Warp Preview that GGE Encode has."
        ) from None
