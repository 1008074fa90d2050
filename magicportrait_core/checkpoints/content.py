"""Says what a file of weights holds, from names and shapes; for messages about files in the wrong place."""

from __future__ import annotations

from collections.abc import Mapping

MOTION = ".motion_modules."
FAMILIES = {768: "SD 1.x", 1024: "SD 2", 1280: "SDXL's refiner", 2048: "SDXL"}  # by width of the text

# Part of a name -> what has such names; the first that is found counts.
FOREIGN = (
    ("lora_", "a LoRA, which is an addition to some network"),
    ("lora.", "a LoRA, which is an addition to some network"),
    ("model.diffusion_model.", "a whole checkpoint in Stable Diffusion's own layout"),
    ("controlnet_", "a ControlNet"),
    ("control_model.", "a ControlNet"),
    ("input_blocks.", "a UNet in Stable Diffusion's own layout"),
    ("image_proj", "an IP-Adapter"),
    ("text_model.", "a CLIP text encoder"),
    ("decoder.conv_in.", "a VAE"),
    ("landmark", "a model of landmarks"),
    ("E_flame", "DECA's encoders"),
    ("smirk_encoder.", "SMIRK's encoders"),
)


def what_is(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """A phrase such as "a VAE" or "a guidance encoder (GGE)"."""
    for part, what in FOREIGN:
        if any(part in name for name in shapes):
            return what
    if _all_motion(shapes):
        return _motion_modules(shapes)
    if "blocks.0.weight" in shapes and "conv_in.weight" in shapes:
        return "a guidance encoder (GGE)"
    if any(name.startswith("down_blocks.0.resnets.") for name in shapes):
        return _unet(shapes)
    return "weights of an unknown kind"


def has_motion(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return any(MOTION in name for name in shapes)


def _all_motion(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(MOTION in name for name in shapes)


def _motion_modules(shapes: Mapping[str, tuple[int, ...]]) -> str:
    frames = next((shape[1] for name, shape in shapes.items() if name.endswith(".pe") and len(shape) == 3), 0)
    middle = "with" if any(name.startswith("mid_block.") for name in shapes) else "without"
    return f"motion modules (AnimateDiff) for {frames} frames {middle} a mid block"


def _unet(shapes: Mapping[str, tuple[int, ...]]) -> str:
    kind = "a UNet without output layers (an AppearanceNet, published as reference_unet)"
    if has_motion(shapes):
        kind = "a Denoising UNet with motion modules"
    elif "conv_out.weight" in shapes:
        kind = "a UNet without motion modules"
    width = next((shape[1] for name, shape in shapes.items() if name.endswith(".attn2.to_k.weight")), None)
    return kind if width is None else f"{kind} for texts of width {width} ({FAMILIES.get(width, 'unknown')})"
