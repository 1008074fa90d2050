"""The node pack's list of nodes."""

from .alignment import AlignIdentity
from .guidance import RenderGuidance
from .host import register_model_folder
from .loaders import LoadTracker
from .track_files import LoadTrack, SaveTrack
from .tracking import TrackVideo
from .warp import FlowWarpPreview

NODES = [LoadTracker, TrackVideo, AlignIdentity, RenderGuidance, FlowWarpPreview, SaveTrack, LoadTrack]

__all__ = ["NODES", "register_model_folder"]
