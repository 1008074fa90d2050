"""MagicPortrait for ComfyUI: portrait reenactment guided by a 3D head model."""

if __package__:  # empty when a test runner imports this file on its own
    from .comfy_entry import comfy_entrypoint

    WEB_DIRECTORY = "./web"
    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
