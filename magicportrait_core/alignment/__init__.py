"""Structured Face Alignment: the portrait keeps its person, camera and place, and gets the driver's motion.

Reading order: options -> structured (the method) -> line_of_sight -> neutral -> rest -> openings ->
turn_limits -> notes.
"""

from .line_of_sight import head_rotation, seen_rotation
from .neutral import neutral_frame
from .options import StructuredFaceAlignment
from .structured import Alignment, align, align_track

__all__ = [
    "Alignment",
    "StructuredFaceAlignment",
    "align",
    "align_track",
    "head_rotation",
    "neutral_frame",
    "seen_rotation",
]
