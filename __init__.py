"""MagicPortrait for ComfyUI: portrait reenactment guided by a 3D head model."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The node pack, for ComfyUI; imported only when asked for, so that tests can import this file."""
    from .comfy_entry import comfy_entrypoint as entrypoint

    return await entrypoint()
