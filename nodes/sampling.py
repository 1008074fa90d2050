"""MagicPortrait Sampler: the portrait, moved by the features, window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io
from torch import Tensor

from . import host
from .sockets import HostedModel, ModelSocket, MotionFeaturesSocket, SegmentsSocket

if TYPE_CHECKING:
    from comfy.sd import VAE

    from ..magicportrait_core.motion_features import MotionFeatures

PLANS = {"open-ended": "open", "closed loop": "loop", "released": "released"}  # ours -> core's
COUPLINGS = {"every step": "every_step", "independent segments": "independent"}
MOST_PARTS = 1000


def render_inputs() -> list[io.Input]:
    """The widgets that decide what the video looks like."""
    return [
        io.Int.Input(
            "seed",
            default=42,
            min=0,
            max=2**64 - 1,
            control_after_generate=True,
            tooltip="Number that the noise is drawn from: the same seed gives the same video. Each frame has "
            "noise of its own, whatever the length of the clip.",
        ),
        io.Int.Input(
            "steps",
            default=0,
            min=0,
            max=1000,
            tooltip="Denoising steps. 0 is as usual for the model: 20 for the published one (10 is a quick "
            "look, more than 30 changes little), 1 for the built-in one.",
        ),
        io.Float.Input(
            "guidance_scale",
            default=0.0,
            min=0.0,
            max=30.0,
            step=0.1,
            tooltip="Classifier-free guidance (cfg): how strongly the result is pulled to the portrait. 0 is "
            "as usual for the model: 3.5 for the published one; 1, which is off and takes half the time, for "
            "the built-in one.",
        ),
        io.Float.Input(
            "guidance_strength",
            default=1.0,
            min=0.0,
            max=2.0,
            step=0.05,
            tooltip="How closely the head follows the motion features. 0 ignores them, 1 is as trained.",
        ),
        io.Combo.Input(
            "window_plan",
            options=list(PLANS),
            default="open-ended",
            tooltip="How windows of 12 frames cover the clip. 'open-ended': from the first frame to the "
            "last. 'closed loop': the end leads into the beginning, for seamless loops. 'released': as the "
            "published code does it, whose last window wraps around.",
        ),
        io.Int.Input(
            "overlap",
            default=1,
            min=0,
            max=31,
            tooltip="Frames that neighbouring windows share at least. 1 is as published; 4 joins windows "
            "more smoothly and takes a third longer.",
        ),
        io.Int.Input(
            "window_frames",
            default=0,
            min=0,
            max=32,
            advanced=True,
            tooltip="Frames of a window. 0 is 12, as trained. Fewer need less memory and hold together less.",
        ),
        io.Combo.Input(
            "coupling",
            options=list(COUPLINGS),
            default="every step",
            advanced=True,
            tooltip="'every step' averages overlapping windows in each step, as in the paper. 'independent "
            "segments' denoises each window by itself, so that machines can share a clip without any seam "
            "other than the blend of Temporal Aggregate.",
        ),
    ]


def machine_inputs() -> list[io.Input]:
    """The widgets that decide how the work is done."""
    return [
        io.Int.Input(
            "part",
            default=1,
            min=1,
            max=MOST_PARTS,
            advanced=True,
            tooltip="Which part of the clip this sampler renders, from 1 to 'parts'.",
        ),
        io.Int.Input(
            "parts",
            default=1,
            min=1,
            max=MOST_PARTS,
            advanced=True,
            tooltip="Into how many parts the clip is shared among machines. Join them with Temporal "
            "Aggregate.",
        ),
        io.Int.Input(
            "windows_per_batch",
            default=0,
            min=0,
            max=64,
            advanced=True,
            tooltip="Windows denoised at a time. 0 is as many as fit into free memory.",
        ),
        io.Int.Input(
            "save_every",
            default=5,
            min=0,
            max=1000,
            advanced=True,
            tooltip="Keep the unfinished render on disk every so many steps, and when it is cancelled: the "
            "same graph then goes on where it stopped. 0 is off.",
        ),
    ]


class Sampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitSampler",
            display_name="MagicPortrait Sampler",
            category="MagicPortrait/diffusion",
            description="Makes the video: the portrait's appearance, moved by the motion features, denoised "
            "in overlapping windows. Any length; can be cancelled and goes on later.",
            search_aliases=[
                "ksampler",
                "portrait animation",
                "face reenactment",
                "talking head",
                "liveportrait",
                "animate portrait",
                "video sampler",
                "resume render",
            ],
            inputs=[
                ModelSocket.Input("model", tooltip="From Load MagicPortrait Model."),
                io.Image.Input("portrait", tooltip="The picture that went into Align Identity Shape."),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The VAE of Stable Diffusion 1.5, best vae-ft-mse-840000. Those of SDXL and "
                    "others have different latents. The built-in model needs none.",
                ),
                MotionFeaturesSocket.Input("features", tooltip="From GGE Encode."),
                *render_inputs(),
                *machine_inputs(),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="'A close up of a person.' through CLIP Text Encode with the text encoder of "
                    "Stable Diffusion 1.5. Not needed for models that bring it along.",
                ),
            ],
            outputs=[
                SegmentsSocket.Output("segments", tooltip="Finished windows, for Temporal Aggregate."),
                io.String.Output("report", tooltip="Windows, time a frame and memory."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: HostedModel,
        portrait: Tensor,
        features: MotionFeatures,
        seed: int,
        steps: int = 0,
        guidance_scale: float = 0.0,
        guidance_strength: float = 1.0,
        window_plan: str = "open-ended",
        overlap: int = 1,
        window_frames: int = 0,
        coupling: str = "every step",
        part: int = 1,
        parts: int = 1,
        windows_per_batch: int = 0,
        save_every: int = 5,
        vae: VAE | None = None,
        conditioning: list | None = None,
    ) -> io.NodeOutput:
        from ..magicportrait_core.render_options import ReenactOptions
        from .render import Share, render

        options = ReenactOptions(
            steps=steps or None,
            guidance_scale=guidance_scale or None,
            seed=seed,
            guidance_strength=guidance_strength,
            plan=PLANS[window_plan],
            overlap=overlap,
            window_frames=window_frames or None,
            coupling=COUPLINGS[coupling],
            windows_per_batch=windows_per_batch or None,
            save_every=save_every,
        )
        picture, share = host.one_picture(portrait, "portrait"), Share(part, parts)
        segments, report = render(model, picture, vae, features, conditioning, options, share)
        return io.NodeOutput(segments, report, ui=host.show_text(report))
