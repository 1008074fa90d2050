"""Learning-free motion preview: the portrait itself, moved by the flow of the head model's surface."""

from .clip import warp_clip
from .compose import WarpFrame, warp_frame
from .options import WarpOptions
from .source import WarpSource, prepare_warp
from .sources import SOURCES, source_map_picture, source_shares

__all__ = [
    "SOURCES",
    "WarpFrame",
    "WarpOptions",
    "WarpSource",
    "prepare_warp",
    "source_map_picture",
    "source_shares",
    "warp_clip",
    "warp_frame",
]
