"""A portrait warped through a whole track."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from ..tracking.track import FaceTrack
from .compose import WarpFrame, warp_frame
from .source import WarpSource

logger = logging.getLogger("magicportrait")


def warp_clip(
    source: WarpSource,
    target: FaceTrack,  # F frames, aligned to the portrait
    on_frame: Callable[[int, int], None] | None = None,  # (frames done, frames in all); may raise to cancel
) -> Iterator[WarpFrame]:
    """The frames of a track, one at a time. Turns beyond the limits are held, with one warning at the end."""
    held = []
    for frame in range(target.num_frames):
        result = warp_frame(source, target[frame : frame + 1])
        held.append(result.held)
        yield result
        if on_frame:
            on_frame(frame + 1, target.num_frames)
    beyond = sum(degrees > 0.5 for degrees in held)
    if beyond:
        logger.warning(
            "the preview cannot turn this photo as far as the driving video asks in %d of %d frames (up to "
            "%.0f degrees more): the turn was held. Use a portrait that faces the way the driver does, or "
            "raise max_turn",
            beyond,
            target.num_frames,
            max(held),
        )
