"""Load MagicPortrait Model: the built-in networks, or those in a folder below models/magicportrait."""

from __future__ import annotations

import os
from pathlib import Path

import comfy.model_management
import folder_paths
import torch
from comfy_api.latest import io

from . import host
from .sockets import ModelSocket

BUILT_IN = "small (built in)"  # comes with the pack
RELEASED = "released"  # models/magicportrait/released: where people put the published files
MARK = "denoising_unet"  # a folder that holds a file of this name is a model
AUTO = "auto"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PARAMETERS = 1_312_730_244  # of the largest network at SD 1.5 size, for the host's choice


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        choices = model_choices()
        return io.Schema(
            node_id="MagicPortraitLoadModel",
            display_name="Load MagicPortrait Model",
            category="MagicPortrait/diffusion",
            description="Loads the diffusion model: AppearanceNet, the Denoising UNet and the encoders of "
            "the guidance maps. A small model is built in; the published files work as they are.",
            search_aliases=[
                "magicportrait checkpoint",
                "small model",
                "built in model",
                "reference unet",
                "appearance net",
                "denoising unet",
                "motion module",
                "guidance encoder",
                "animatediff portrait",
            ],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=choices,
                    default=choices[0],
                    tooltip="'small (built in)' needs no file: it repairs the portrait that Flow Warp "
                    "Preview moves. Others are folders in models/magicportrait: put the published files into "
                    "the folder 'released' and press R; nothing is ever downloaded.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=[AUTO, *DTYPES],
                    default=AUTO,
                    advanced=True,
                    tooltip="Precision of the networks. 'auto' takes fp16 where the device is good at it, "
                    "fp32 on a CPU. Choose bf16 or fp32 when the sampler reports values that are not finite.",
                ),
            ],
            outputs=[
                ModelSocket.Output(display_name="model", tooltip="The networks of the diffusion model.")
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        try:
            if model is not None:
                model_folder(model)
        except (FileNotFoundError, ValueError) as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, model: str | None = None, dtype: str = AUTO) -> str:
        try:
            files = sorted(model_folder(model).iterdir()) if model else []
        except (FileNotFoundError, ValueError):
            files = []
        times = [f"{file.name} {file.stat().st_mtime}" for file in files if file.is_file()]
        return f"{model} {dtype} {times}"

    @classmethod
    def execute(cls, model: str, dtype: str = AUTO) -> io.NodeOutput:
        from ..magicportrait_core.packages import check_diffusers

        check_diffusers()
        from ..magicportrait_core.checkpoints.loading import load_model
        from .patchers import host_model

        with host.ordinary_tensors():
            loaded = load_model(model_folder(model), dtype=torch_dtype(dtype), on_step=host.progress())
            return io.NodeOutput(host_model(loaded))


def model_choices() -> list[str]:
    """Models, the one that new nodes get first: the user's own, the built-in one, and a place for the
    published files."""
    files = (Path(name) for name in folder_paths.get_filename_list(host.MODEL_KIND))
    found = {file.parent.as_posix() for file in files if file.stem == MARK}
    return [*sorted(found), BUILT_IN, *({RELEASED} - found)]


def model_folder(choice: str) -> Path:
    """The folder of a choice; FileNotFoundError says which files are missing and where to get them.

    ValueError when two files of the folder would do equally well.
    """
    from ..magicportrait_core.built_in import built_in_model
    from ..magicportrait_core.checkpoints.presets import describe_missing

    if choice == BUILT_IN:
        return built_in_model()
    roots = [Path(os.path.abspath(root)) for root in folder_paths.get_folder_paths(host.MODEL_KIND)]
    folders = [(root, Path(os.path.abspath(root / choice))) for root in roots]
    inside = [folder for root, folder in folders if root in (folder, *folder.parents)]
    if not inside:
        raise FileNotFoundError(f"Model {choice!r} is not a folder in {roots[0]}: choose one from the list.")
    folder = next((f for f in inside if any(f.glob(f"{MARK}.*"))), inside[0])
    missing = describe_missing(folder)
    if missing:
        raise FileNotFoundError(missing)
    return folder


def torch_dtype(choice: str) -> torch.dtype:
    """The precision of a choice; 'auto' asks the host, which knows the device and its own start options."""
    if choice in DTYPES:
        return DTYPES[choice]
    device = comfy.model_management.get_torch_device()
    preferred = [torch.float16, torch.bfloat16, torch.float32]
    dtype = comfy.model_management.unet_dtype(device, PARAMETERS, preferred)
    return dtype if dtype in preferred else torch.float32  # the host's fp8 options are for other networks
