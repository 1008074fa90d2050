"""ComfyUI's entry point: registers the model folder and lists the nodes."""

from __future__ import annotations

import logging

from comfy_api.latest import ComfyExtension, io

logger = logging.getLogger("magicportrait")


class MagicPortraitExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        # The host shows an error raised here as one line without its place; the traceback helps everyone.
        try:
            from .nodes import NODES, register_model_folder

            register_model_folder()
            for node in NODES:
                node.GET_SCHEMA()
            return NODES
        except Exception:
            logger.exception("MagicPortrait's nodes could not be loaded")
            raise


async def comfy_entrypoint() -> MagicPortraitExtension:
    return MagicPortraitExtension()
